"""One side of a comparison: what a checkout makes of the same data, through public names alone.

    python probe.py WORK make SIDE | python probe.py WORK read SIDE WHOSE

It is run by its path, with the checkout on PYTHONPATH: it imports nothing of its neighbours.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from llama_index.core.llms import ChatMessage, MockLLM

from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from shared_router import (
    Candidate,
    RetrievalFacts,
    Router,
    RoutingDataset,
    hybrid_options,
    routing_query,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Found = dict[str, dict[str, Any]]

PAIR, THREE = ("small", "large"), ("nano", "mini", "maxi")
BARE = {"reference": False, "int8": False, "words": False}
FITS: dict[str, tuple[str, tuple[str, ...], dict[str, Any], dict[str, Any]]] = {
    "gap": ("plain", PAIR, {}, {}),
    "det": ("plain", PAIR, {"labels": "det"}, {}),
    "bare": (
        "plain",
        PAIR,
        {"reference": False, "int8": False, "words": False},
        {"by_task": "off"},
    ),
    "given": ("tasks", PAIR, {}, {"least_per_task": 40}),
    "predicted": ("tasks", PAIR, {}, {"by_task": "predicted", "least_per_task": 40}),
    "retrieval": ("retrieval", PAIR, {}, {}),
    "three": ("three", THREE, {}, {}),
    "three-prob": ("three", THREE, {"labels": "prob"}, {"least_per_task": 40}),
}
"""Router to its data, candidates, and the keywords of `fit` and `calibrate`."""
DIALS: tuple[dict[str, Any], ...] = (
    {},
    {"threshold": 0.02},
    {"cost_advantage": 0.3},
    {"cost_advantage": 0.9},
    {"max_quality_drop": 0.0},
    {"max_quality_drop": 0.05},
    {"max_quality_drop_absolute": 0.1},
    {"route": "large"},
)
TASKS = (None, "made/good", "made/hard", "other", "elsewhere/new")
FACTS = (None, RetrievalFacts.of([0.9, 0.4], context_tokens=300), RetrievalFacts.of([0.1]))
TEXTS = (
    "greet the visitor please in short",
    "prove the theorem 17 for a friend",
    "solve 4x + 7 = 31 slowly, as a list",
    "",
    "   ",
    "日本の首都はどこですか",
    "half an emoji \ud83d here",
    "word " * 400,
    "Context: " + "many words " * 300 + "\n\nQuestion: which city?\nAnswer:",
    "a\nb\n\nc? " * 50,
)
COMMANDS = (
    "fit",
    "calibrate",
    "evaluate",
    "route",
    "score",
    "collect",
    "judge",
    "add-candidate",
    "transfer",
)
VOLATILE = {"latency_ms", "query_hash"}


def texts(n: int) -> list[str]:
    """Make n texts, the odd ones first."""
    words = ("prove", "greet", "17", "x**2", "the city", "with care", "why?", "factor")
    made = (" ".join(some) for some in itertools.permutations(words, 4))
    return [*TEXTS, *itertools.islice(made, n - len(TEXTS))]


def essence(decision: Any) -> dict[str, Any]:
    """Leave out what two calls of one process differ in."""
    kept = decision.model_dump(mode="json", exclude=VOLATILE)
    return dict(sorted(kept.items()))


def bound(router: Router, **options: Any) -> tuple[HybridChatModel, HybridLLM]:
    """Wrap fakes in both fronts, the smaller ones with small windows and without tools."""
    names = router.candidates

    def candidates(make: Any) -> list[Candidate]:
        return [
            Candidate(
                name,
                make(),
                context_window=400 * (at + 1),
                supports_tools=at > 0,
                supports_structured_output=at > 0,
            )
            for at, name in enumerate(names)
        ]

    given = {"router": router, "same_models": True, **options}
    return (
        HybridChatModel(
            candidates=candidates(lambda: FakeListChatModel(responses=["yes"])), **given
        ),
        HybridLLM(candidates=candidates(MockLLM), **given),
    )


def make(work: Path, side: str) -> Found:
    """Fit, calibrate and save every router; list what stands in the folders."""
    saved: dict[str, Any] = {}
    reports: dict[str, Any] = {}
    for name, (data, candidates, fitting, calibrating) in FITS.items():
        train = RoutingDataset.load(work / f"{data}-train.jsonl")
        validation = RoutingDataset.load(work / f"{data}-validation.jsonl")
        router = Router.fit(train, candidates, encoder=str(work / "encoder"), **fitting)
        router = router.calibrate(validation, **calibrating)
        folder = work / f"{side}-routers" / name
        router.save_pretrained(folder)
        for path in sorted(folder.iterdir()):
            saved[f"{name}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        report = router.evaluate(validation, resamples=50, cost_advantage=0.3)
        reports[name] = json.loads(json.dumps(report.to_dict()))
    return {"saved folders": saved, "evaluations": reports, "help": dict(helps())}


def helps() -> Iterator[tuple[str, str]]:
    """Print the help of every command."""
    script = "from shared_router.cli import main; main()"
    for command in ("", *COMMANDS):
        asked = [sys.executable, "-c", script, *command.split(), "--help"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        yield command, done.stdout


def read(work: Path, whose: str) -> Found:
    """Load what a side saved, and decide with it."""
    found: Found = {"scores": {}, "decisions": {}, "fronts": {}, "pickles": {}}
    folders = sorted((work / f"{whose}-routers").iterdir())
    routers = {folder.name: Router.from_pretrained(folder) for folder in folders}
    for name, router in {**routers, "bundled": Router.bundled()}.items():
        asked = texts(200 if name in {"gap", "bundled"} else 40)
        for at, row in enumerate(router.score(asked)):
            found["scores"][f"{name}/{at}"] = [float(score).hex() for score in row]
        found["decisions"] |= dict(decisions(name, router))
        found["fronts"] |= dict(through_fronts(name, router))
        again = pickle.loads(pickle.dumps(router))
        found["pickles"] |= dict(itertools.islice(decisions(name, again), 40))
    return found


def decisions(name: str, router: Router) -> Iterator[tuple[str, Any]]:
    """Decide over dials, tasks and facts of retrieval."""
    asked = [*TEXTS, *texts(24)[-8:]]
    for (at, dial), task, facts in itertools.product(enumerate(DIALS), TASKS, FACTS):
        if facts is not None and not router.sees_retrieval:
            continue
        for place in range(at, len(asked), 3):
            key = f"{name}/{dial}/{task}/{FACTS.index(facts)}/{place}"
            told = router.decide(asked[place], retrieval=facts, task=task, **dial)
            yield key, essence(told)


def through_fronts(name: str, router: Router) -> Iterator[tuple[str, Any]]:
    """Decide through both fronts: guards, context, tools, turns, and what a message carries."""
    model, llm = bound(router)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for at, text in enumerate(TEXTS):
        yield f"{name}/langchain/{at}", essence(model.route(text))
        yield f"{name}/llamaindex/{at}", essence(llm.route(text))
        yield f"{name}/tools/{at}", essence(model.route(text, tools=[tool]))
        with hybrid_options(cost_advantage=0.4), routing_query("why?", retrieval=FACTS[1]):
            yield f"{name}/context/{at}", essence(model.route(text))
            yield f"{name}/context li/{at}", essence(llm.route(text))
        if text.strip():
            answered = model.invoke(text).response_metadata["hybrid_routing"]
            yield f"{name}/message/{at}", {k: v for k, v in answered.items() if k not in VOLATILE}
            later = asyncio.run(llm.achat([ChatMessage(role="user", content=text)]))
            told = later.additional_kwargs["hybrid_routing"]
            yield f"{name}/chat/{at}", {k: v for k, v in told.items() if k not in VOLATILE}
    call = {"name": "f", "args": {}, "id": "1"}
    carried = {"hybrid_routing": {"candidate": router.candidates[0]}}
    turn = [
        HumanMessage("prove it"),
        AIMessage("", tool_calls=[call], response_metadata=carried),
        ToolMessage("done", tool_call_id="1"),
    ]
    yield f"{name}/sticky", essence(model.route(turn))


def main() -> None:
    """Do one side's part."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    work, doing, side = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    if doing == "make":
        found, name = make(work, side), f"{side}-makes"
    else:
        found, name = read(work, sys.argv[4]), f"{side}-reads-{sys.argv[4]}"
    (work / f"{name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
