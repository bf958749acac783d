"""Second looks end to end: fresh questions through both fronts, the pocket pair over HTTP.

    python -m tests.benchmarks.second_look_fronts ROUTER DATA [--questions N]

ROUTER is a router of the pocket pair, calibrated with recorded answers; DATA has fresh questions
with the large model's answers recorded. Printed for each front, with looks and without: what is
saved of the large model's compute by the servers' own counts, the drop in quality, the share of
calls that waited for an answer thrown away, and the time to a stream's first chunk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_openai import ChatOpenAI
from llama_index.llms.openai_like import OpenAILike

from cookbook.pocket.answering import USD_PER_PARAMETER_TOKEN
from cookbook.pocket.generation import MODELS, load_model, parameters_per_token
from cookbook.pocket.server import pocket_server
from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from shared_router import Candidate, Router, RoutingDataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared_router.records import CallRecord

NAMES = ("small", "large")
STREAMED = 100
"""Questions that are streamed too."""


@dataclass
class Tally:
    """What came of many calls."""

    right: list[float] = field(default_factory=list)
    paid: list[float] = field(default_factory=list)
    records: list[CallRecord] = field(default_factory=list)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("router")
    parser.add_argument("data")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--split", default="fresh")
    parser.add_argument("--max-quality-drop", type=float, default=0.01)
    asked = parser.parse_args()
    router = Router.from_pretrained(asked.router)
    fresh = RoutingDataset.load(asked.data).split(asked.split).take(range(asked.questions))
    prices = {
        name: parameters_per_token(load_model(MODELS / name)) * USD_PER_PARAMETER_TOKEN
        for name in NAMES
    }
    with pocket_server() as url:
        for front in (langchain, llamaindex):
            for looks in (True, False):
                tally = Tally()
                ask, stream = front(url, router, asked, looks=looks, told=tally.records.append)
                for record in fresh:
                    right = record.outcomes["large"]
                    said = ask(record.query)
                    tally.right.append(quality(said, right.response[0], right.quality[0]))
                    tally.paid.append(paid(tally.records[-1], prices))
                tally_calls = len(tally.records)
                first = [waited(stream, record.query) for record in fresh.records[:STREAMED]]
                del tally.records[tally_calls:]
                show(front.__name__, looks, tally, fresh, prices, first)


def quality(said: str, reference: str, right: float) -> float:
    """Judge an answer by the large model's recorded one, where that was right."""
    return float(said.strip() == reference.strip()) if right else 0.0


def paid(record: CallRecord, prices: dict[str, float]) -> float:
    """Return what a call cost, every attempt counted."""
    return sum(
        (each.usage.input_tokens + each.usage.output_tokens) * prices[NAMES[each.index]]
        for each in record.attempts
        if each.usage is not None
    )


def waited(stream: Callable[[str], Any], query: str) -> float:
    """Return the seconds to a stream's first chunk that shows something."""
    begun = time.perf_counter()
    for _ in stream(query):
        break
    return time.perf_counter() - begun


def made_alike(router: Router) -> dict[str, Any]:
    """Return how answers are asked for that are made as the measured ones were."""
    settings = router.second_look.settings if router.second_look else None
    known = {} if settings is None else settings.model_dump(include={"temperature", "max_tokens"})
    return {name: value for name, value in known.items() if value is not None}


def langchain(
    url: str, router: Router, asked: Any, *, looks: bool, told: Callable[..., Any]
) -> tuple[Callable[[str], str], Callable[[str], Any]]:
    """Wrap the pair in LangChain."""
    own = {"base_url": url, "api_key": "none", "stream_usage": True, **made_alike(router)}
    small, large = (ChatOpenAI(model=f"pocket-{name}", **own) for name in NAMES)
    model = HybridChatModel(
        candidates=[Candidate("small", small), Candidate("large", large)],
        router=router,
        max_quality_drop=asked.max_quality_drop,
        second_look=looks,
        on_call=[told],
    )
    return lambda text: str(model.invoke(text).content), lambda text: (
        chunk for chunk in model.stream(text) if chunk.content
    )


def llamaindex(
    url: str, router: Router, asked: Any, *, looks: bool, told: Callable[..., Any]
) -> tuple[Callable[[str], str], Callable[[str], Any]]:
    """Wrap the pair in LlamaIndex."""
    own = {"api_base": url, "api_key": "none", "is_chat_model": True, **made_alike(router)}
    small, large = (OpenAILike(model=f"pocket-{name}", **own) for name in NAMES)
    llm = HybridLLM(
        candidates=[Candidate("small", small), Candidate("large", large)],
        router=router,
        max_quality_drop=asked.max_quality_drop,
        second_look=looks,
        on_call=[told],
    )
    return lambda text: llm.complete(text).text, lambda text: (
        chunk for chunk in llm.stream_complete(text) if chunk.delta
    )


def show(
    front: str,
    looks: bool,
    tally: Tally,
    fresh: RoutingDataset,
    prices: dict[str, float],
    first: list[float],
) -> None:
    """Print a line."""
    reference = fresh.quality(["large"]).mean()
    whole = fresh.costs_usd(["large"])
    n = len(tally.right)
    kept = sum(record.answered_by == "small" for record in tally.records) / n
    thrown = sum(record.thrown_away is not None for record in tally.records) / n
    looked = sum(record.looked for record in tally.records) / n
    states = {record.guarantee for record in tally.records}
    saved = 1 - (sum(tally.paid) / n) / whole.mean() if whole is not None else float("nan")
    sys.stdout.write(
        f"{front} {'with looks' if looks else 'without'}: n={n} saved={saved:.3f} "
        f"drop={1 - statistics.fmean(tally.right) / reference:.4f} kept={kept:.3f} "
        f"looked={looked:.3f} thrown_away={thrown:.3f} guarantee={sorted(states)} "
        f"first chunk: median {statistics.median(first) * 1e3:.0f} ms\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
