"""What the card of the bundled router says beyond what every card says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cookbook.bundled.pool import SOURCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cookbook.bundled.measure import AtDial, Figures

COLUMNS = ("router", "query_length", "nearest_neighbours", "random", "oracle")


def notes(figures: Sequence[Figures], dialled: Sequence[AtDial]) -> dict[str, str]:
    """Write the card's own sections, by title."""
    return {
        "What it is, and what not": WHAT,
        "Trained on": _sources(),
        "How well it ranks": f"{HOW}\n\n{table(figures)}\n\n{_verdict(figures)}",
        "What its dials give": f"{DIALLED}\n\n{dial_table(dialled)}",
        "On other processors": ELSEWHERE,
        "How to replace it": REPLACE,
    }


WHAT = (
    "The router of a wrapper that is given none: it tells questions that most models of the small "
    "tier (7 to 70 billion parameters, of 2023 and 2024) answer right from those that need a "
    "frontier model. It knows no model of yours: a drop that it states is an estimate on other "
    "models and other questions, and no promise. Use it to begin with, and to collect outcomes; "
    "replace it as soon as you have some.\n\n"
    "Do not use it where a wrong answer costs much, for languages other than English, for "
    "conversations or open-ended writing (its rank is poor there, see `alpaca_eval` below), nor "
    "for tools and agents: of none of these has it seen one example. Where routing is by more than "
    "the question's difficulty (safety, privacy, style), it knows nothing."
)
HOW = (
    "APGR: area under the recovered quality gap, 0.5 for a random router, with 95 % bootstrap "
    "intervals over questions. *Left out*: fitted on the training questions of the other sources, "
    "measured on all questions of this one, which is what to expect on questions of your own. "
    "*In domain*: fitted on the training questions of all sources, measured on the validation "
    "questions of this one. A source's small tier is the mean of its small models. RouterDC "
    "measured no frontier model: one that is always right stands for it. *Neighbours* are 100 "
    "nearest training questions. The head's constants were chosen on the "
    "left-out figures of the first four sources: read those as development figures."
)
DIALLED = (
    "Calibrated on the validation questions of all sources that measured a frontier model (at most "
    "400 of each), a dial holds on their mixture, on one source more or less, and on other kinds "
    "of questions not at all: `alpaca_eval` shows by how much. Measured on validation questions "
    "and all of `alpaca_eval`:"
)
ELSEWHERE = (
    "Made and calibrated on a CPU with AVX-512 and VNNI. On an emulated one with AVX2 and neither "
    "(QEMU, Haswell) 30 validation questions of MMLU got scores at most 0.0013 away, where their "
    "spread is 0.081, with a rank correlation of 0.9996: "
    "`python -m tests.benchmarks.int8_across_cpus DATA --queries 30`. It was not tried on Arm."
)
REPLACE = (
    "A thousand questions with both your models' outcomes make a better one:\n\n"
    "```bash\nhybrid-llm collect questions.csv --model small=SPEC --model large=SPEC "
    "--judge numeric --out outcomes.jsonl.gz\n"
    "hybrid-llm fit outcomes.jsonl.gz --candidates small,large --out my-router\n"
    "hybrid-llm calibrate my-router outcomes.jsonl.gz\n```\n\n"
    "A few hundred tell whether it will do for your pair, and calibrate it: "
    "`hybrid-llm transfer bundled outcomes.jsonl.gz --candidates small,large`. The command that "
    "made it: `python -m cookbook.bundled DATA`."
)
ORIGIN = (
    "The `train` questions of these public measurements (lm-sys/RouteLLM, Apache-2.0, on MMLU and "
    "GSM8K, MIT; shuhao02/RouterDC, which carries RouterBench's zero-shot outcomes); `alpaca_eval` "
    "is measured only. It holds their ids and a fitted head, none of their text.\n"
)


def _sources() -> str:
    rows = [
        f"| {source.file} | {', '.join(source.small) or 'all seven of it'} | "
        f"{source.frontier or 'not measured'} |"
        for source in SOURCES
    ]
    return "\n".join([ORIGIN, "| source | small tier | frontier |", "|---|---|---|", *rows])


def table(figures: Sequence[Figures]) -> str:
    """Lay out the figures of all sources as Markdown."""
    head = ["source", "", "questions", *COLUMNS, "lead over length", "cost advantage at 1 % drop"]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(rows + [_row(one) for one in figures])


def dial_table(dialled: Sequence[AtDial]) -> str:
    """Lay out what stored dials give as Markdown."""
    head = ["source", "questions", "dial", "cost advantage", "quality drop"]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in dialled:
        cells = [one.source, f"{one.n:,}", f"`{one.dial}`"]
        cells += [f"{one.cost_advantage:.1%}", f"{one.drop:.1%}"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _row(one: Figures) -> str:
    cells = [one.source, one.how, f"{one.n:,}", *(_apgr(one, name) for name in COLUMNS)]
    low, high = one.lead_over_length
    cells += [f"[{low:+.3f}, {high:+.3f}]", f"{one.cost_advantage:.3f}"]
    return "| " + " | ".join(cells) + " |"


def _apgr(one: Figures, name: str) -> str:
    value, (low, high) = one.apgr[name]
    return f"{value:.3f}" if name == "random" else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _verdict(figures: Sequence[Figures]) -> str:
    """Say where it is no better than asking how long the question is, or below its aim."""
    left_out = [one for one in figures if one.how == "left out"]
    below = [one.source for one in left_out if one.apgr["router"][0] <= 0.55]
    unsure = [one.source for one in left_out if one.lead_over_length[0] <= 0]
    behind = [
        one.source for one in left_out if one.apgr["router"][0] < one.apgr["nearest_neighbours"][0]
    ]
    return (
        f"Left out, it is not above 0.55 on {_listed(below)}, and its lead over the question's "
        f"length is within chance, or none, on {_listed(unsure)}. "
        f"Nearest neighbours rank better on {_listed(behind)}. The cost advantage at 1 % drop is "
        "read off the measured curve in hindsight; a stored dial does not find it."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none of them"
