"""The model card: written from measured facts, nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_router.deciding.pooling import estimate_at
from shared_router.measuring.metrics import ADVANTAGES
from shared_router.options import USUAL_CONFIDENCE, Dial

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.router.state import RouterState

_HUB_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
LIMITS = (0.01, 0.02, 0.05, 0.1)
"""Limits that the card tells of."""
LOSSES = ("train_loss", "dev_loss", "dev_error")
"""Columns of a fine-tuning's curve."""


def model_card(router: RouterState) -> str:
    """Write the card of a router as Markdown with hub metadata."""
    parts = [_metadata(router), f"# {router.name}\n", _summary(router)]
    taken = router.facts.get("taken_from")
    if taken:
        parts.append(f"Its scores were fitted for other models: {', '.join(taken)}.\n")
    training = router.facts.get("training")
    if training:
        parts.append(_told("Training", lambda: _training(training)))
    parts += [f"## {title}\n\n{text}\n" for title, text in router.facts.get("notes", {}).items()]
    parts.append(_calibration(router))
    if router.second_look is not None:
        parts.append(_told("Second look", lambda: _second_look(router)))
    parts.append(_use(router))
    return "\n".join(parts)


def _told(title: str, write: Callable[[], str]) -> str:
    """Write a section; facts made by hand may lack some of what it tells."""
    try:
        return write()
    except (AttributeError, LookupError, TypeError, ValueError):
        return f"## {title}\n\nNot told: its facts are not complete.\n"


def _metadata(router: RouterState) -> str:
    lines = ["---", "library_name: hybrid-llm", "tags:", "- llm-routing", "- hybrid-llm"]
    encoder = str(router.facts.get("training", {}).get("encoder"))
    if _HUB_NAME.fullmatch(encoder) and not Path(encoder).exists():
        lines.append(f"base_model: {encoder}")
    return "\n".join([*lines, "---", ""])


def _summary(router: RouterState) -> str:
    *others, reference = router.candidates
    meaning = (
        "the expected quality of the candidate less that of the reference"
        if router.labels == "gap"
        else "the probability that the candidate's answer is good enough"
    )
    return (
        f"Decides from the query alone whether {' or '.join(f'`{name}`' for name in others)} will "
        f"do, or `{reference}` (the reference) is needed. A score is {meaning} "
        f"(labels `{router.labels}`).\n\nVersion `{router.version}`.\n"
    )


def _training(facts: dict[str, Any]) -> str:
    quality = "\n".join(f"| `{n}` | {q:.4f} |" for n, q in facts["mean_quality"].items())
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in facts["parts"].items())
    tasks = list(facts["tasks"].items())
    shown = ", ".join(f"{task} ({n})" for task, n in tasks[:10])
    more = f" and {len(tasks) - 10} more" if len(tasks) > 10 else ""
    return (
        f"## Training\n\n{facts['n']} queries of {facts['data']} (splits "
        f"{json.dumps(facts['splits'])}; tasks: {shown or 'none given'}{more}).\n\n"
        f"| candidate | mean quality there |\n|---|---|\n{quality}\n\n"
        f"Encoder `{facts['encoder']}`, {'fine-tuned' if 'finetuning' in facts else 'frozen'}, at "
        f"most {facts['max_tokens']} tokens: of longer texts the head and the tail. Parts chosen "
        f"by cross-validation inside the training queries, with their weights: {weights}. Seed "
        f"{facts['seed']}. Costs: {COSTS[facts.get('costs', 'unknown')]}.\n"
        f"{_retrieval(facts)}{_finetuning(facts)}{_int8(facts)}{_added(facts)}"
    )


def _retrieval(facts: dict[str, Any]) -> str:
    means = facts.get("retrieval_means")
    if not means:
        return ""
    listed = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    return (
        f"\nBeside the query it sees facts of what was retrieved for it. Where a call brings none, "
        f"these means of the training queries stand: {listed}.\n"
    )


def _finetuning(facts: dict[str, Any]) -> str:
    tuned = facts.get("finetuning")
    if not tuned:
        return ""
    rows = "\n".join(
        f"| {point['epoch']:.2f} | {' | '.join(map(_shown, (point[key] for key in LOSSES)))} |"
        for point in tuned["curve"]
    )
    return (
        f"\nFine-tuned on {tuned['train_n']} of these queries in {tuned['precision']}, stopped and "
        f"blended on {tuned['dev_n']} others of them; the weights of step {tuned['best_step']} of "
        f"{tuned['steps']} were kept.\n\n| epoch | train loss | dev loss | dev error |\n"
        f"|---|---|---|---|\n{rows}\n"
    )


def _shown(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4f}"


def _int8(facts: dict[str, Any]) -> str:
    found = facts.get("int8")
    if not found or found["spearman"] is None:
        return "\nServed in float32.\n"
    return (
        f"\nServed in {'int8' if found['kept'] else 'float32'}: on {found['n']} training queries "
        f"the scores of int8 have a rank correlation of {found['spearman']:.4f} with those of "
        f"float32 (checked on {', '.join(found['checked_on'])}).\n"
    )


COSTS = {
    "given": "as given",
    "measured": "as the data measured them",
    "prices": "reckoned from prices",
    "unknown": "not known; candidates are weighed in their order",
}


def _added(facts: dict[str, Any]) -> str:
    """Say which candidates were added later, and from how many outcomes."""
    rows = [
        f"- `{one['candidate']}`: {one['n']} queries of {one['data']}, mean quality "
        f"{one['mean_quality']:.4f} there"
        for one in facts.get("added", [])
    ]
    return "\n".join(["\nAdded later, on the same embeddings:\n", *rows, ""]) if rows else ""


def _calibration(router: RouterState) -> str:
    if router.curve is None:
        return "## Calibration\n\nNone: only `threshold` can be dialled.\n"
    facts, curve, dial = router.facts.get("calibration", {}), router.curve, router.dial
    return (
        f"## Calibration\n\n{curve.n} queries of {facts.get('data', 'unnamed data')}, none of them "
        f"fitted on. Default dial `{dial.name}={dial.value:g}`.\n\n{_promised(router)}\n"
        f"Measured on the same queries (no promise):\n\n{_curve_table(curve)}\n{_tasks(router)}"
    )


def _promised(router: RouterState) -> str:
    """Say which limits are promised, and what each then keeps from the reference."""
    facts = router.facts.get("calibration", {})
    if router.promises is None:
        why = facts.get("no_promise", "calibrated before promises were tested")
        return f"No limit is promised: {why}.\n"
    whole = router.promises.whole
    rows = [
        f"| `max_quality_drop={limit:g}` | "
        f"{whole.share_within(Dial('max_quality_drop', limit), USUAL_CONFIDENCE):.3f} | "
        f"{_estimated(router, limit)} |"
        for limit in LIMITS
    ]
    tested = f"At confidence {USUAL_CONFIDENCE:g}, tested on {whole.n} of them"
    head = [
        f"{tested}; the estimate rests on the training queries too.\n",
        "| limit | share kept from the reference, promised | estimated, with the drop there |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _estimated(router: RouterState, limit: float) -> str:
    curve = router.estimate
    if curve is None or not curve.one_sign:
        return "-"
    found = estimate_at(router.rule, curve, Dial("max_quality_drop", limit))
    if found is None:
        return f"{curve.cost_advantage_at(Dial('max_quality_drop', limit)):.3f}"
    low, high = found.interval
    return f"{found.share:.3f} ({found.drop:.3f} [{low:.3f}, {high:.3f}])"


def _second_look(router: RouterState) -> str:
    """Say when an answer is looked at, and what that brought."""
    looks = router.second_look
    if looks is None or looks.width <= 0:
        return "## Second look\n\nNone: at no width did looks save dollars at equal quality.\n"
    facts = looks.facts
    low, high = facts["saved_interval"]
    reads = "their words, form and log-probabilities" if facts["logprobs"] else "words and form"
    assumed = "" if facts["costs_known"] else " (costs unknown: the cheapest taken at a tenth)"
    return (
        f"## Second look\n\nWhere a score lies within {looks.width:.3g} of the threshold, the "
        f"cheaper model's answer is scored too, by {reads}, and accepted or passed on. Fitted on "
        f"{facts['n']} recorded answers, with {len(facts['parts'])} column(s); at most "
        f"{facts['share']:.0%} of the training queries are looked at wherever the threshold "
        f"stands. At equal quality looks saved {facts['saved']:.1%} [{low:.1%}, {high:.1%}] of "
        f"the reference's dollars there, out of fold{assumed}: "
        f'`second_look="auto"` {"looks" if looks.pays else "does not look"}.\n\n'
        f"{_looks_promised(router)}"
    )


def _looks_promised(router: RouterState) -> str:
    line = router.second_look.line if router.second_look else None
    if line is None:
        why = router.facts.get("calibration", {}).get("second_look", {}).get("why_not")
        return f"The line with looks is not calibrated{f': {why}' if why else ''}.\n"
    if line.promises is None:
        return "The line with looks is calibrated as an estimate; no limit is promised on it.\n"
    both = router.promises is not None
    rows = [
        f"| `max_quality_drop={limit:g}` | "
        f"{line.promises.whole.share_within(Dial('max_quality_drop', limit), USUAL_CONFIDENCE):.3f}"
        " |"
        for limit in LIMITS
    ]
    head = [
        f"At confidence {USUAL_CONFIDENCE:g}, tested on {line.promises.whole.n} recorded answers"
        + (", both lines at half of the error, so that they hold together:\n" if both else ":\n"),
        "| limit | share kept from the reference with looks, promised |",
        "|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _tasks(router: RouterState) -> str:
    """Say within which tasks a dial holds, and within which not."""
    tasks = router.task_curves
    if tasks is None:
        return "\nNo tasks were told apart: a dial holds over all queries together.\n"
    rows = [
        f"| `{label}` | {own.n} | {own.reference_quality:.4f} | "
        f"{own.cost_advantage_at(router.dial):.3f} |"
        for label, own in tasks.curves.items()
    ]
    head = [
        "| task | queries | reference quality | cost advantage at the dial |",
        "|---|---|---|---|",
    ]
    table = "\n".join([*head, *rows])
    few = ", ".join(f"`{label}` ({n})" for label, n in tasks.too_few.items())
    named = "its text tells, or a call names" if tasks.by == "predicted" else "a call names"
    return (
        f"\n### By task\n\nAn estimate holds within the task {named}, where that has at least "
        f"{tasks.least} calibration queries:\n\n{table}\n\n{_promised_tasks(router)}"
        f"Too few queries, so that their suite or all tasks together serve: {few or 'none'}.\n"
    )


def _promised_tasks(router: RouterState) -> str:
    own = router.promises.tasks if router.promises else {}
    if not own:
        return ""
    listed = ", ".join(f"`{label}` ({promise.n})" for label, promise in own.items())
    return f"A limit is promised within {listed}; over the mix of all other tasks together.\n\n"


def _curve_table(curve: CalibrationCurve) -> str:
    rows = ["| cost advantage | mean quality | drop against the reference |", "|---|---|---|"]
    for advantage in (0.0, *ADVANTAGES, 0.6, 0.8, 1.0):
        at = min(int((curve.cost_advantage < advantage).sum()), len(curve.quality) - 1)
        drop = curve.reference_quality - curve.quality[at]
        rows.append(f"| {curve.cost_advantage[at]:.3f} | {curve.quality[at]:.4f} | {drop:.4f} |")
    return "\n".join(rows)


def _words(router: RouterState) -> str:
    if not getattr(router.scorer, "reads_terms", False):
        return ""
    return (
        "It also holds a table of hashed words and pairs of words (`words=False` keeps none): who "
        "guesses one can look up about how many training queries fell into its bucket, and which "
        "way the bucket moves the score. "
    )


def _use(router: RouterState) -> str:
    return (
        "## Use\n\n```python\nfrom shared_router import Router\n\n"
        f'router = Router.from_pretrained("{router.name}")\n'
        'router.decide("a query")\n```\n\n'
        "It holds the ids of the queries it was fitted and calibrated on, and, unless fitted with "
        "`train_memory=False`, embeddings of the training queries (no text), from which an "
        f"attacker may guess at them. {_words(router)}Keep a router of private queries private. "
        "Scores and qualities of both are kept.\n\n"
        "Its figures hold for queries and models like those above. On other models or other "
        "queries, calibrate it again with outcomes of your own.\n"
    )
