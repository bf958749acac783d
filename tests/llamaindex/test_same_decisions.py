"""Both fronts decide alike: the same router, the same queries, every dial."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from langchain_hybrid import HybridChatModel, ReplayChatModel
from llamaindex_hybrid import HybridLLM, ReplayLLM
from shared_router import Candidate, Router, RoutingDataset, hybrid_options, routing_query
from shared_router.data.schema import Outcome, RoutingRecord
from tests.llamaindex.fakes import decision_of
from tests.material import by_task, known_truth, three_models

if TYPE_CHECKING:
    from shared_router import RoutingDecision

DIALS = (
    {},
    {"threshold": 0.01},
    {"threshold": -0.2},
    {"cost_advantage": 0.0},
    {"cost_advantage": 0.35},
    {"cost_advantage": 1.0},
    {"max_quality_drop": 0.0},
    {"max_quality_drop": 0.05},
    {"max_quality_drop_absolute": 0.1},
    {"route": "small"},
    {"route": "large"},
)
QUESTIONS = 300
WAYS: tuple[Any, ...] = ("given", "predicted", "off")
TASKS = ("made/good", "made/bad", "other/rare", "made", "elsewhere/new", None)


def answered(data: RoutingDataset) -> RoutingDataset:
    """Give every outcome a text."""

    def one(record: RoutingRecord) -> RoutingRecord:
        outcomes = {
            name: Outcome(quality=outcome.quality, response=(f"{name} answers",))
            for name, outcome in record.outcomes.items()
        }
        return RoutingRecord(**record.model_dump(exclude={"outcomes"}), outcomes=outcomes)

    return RoutingDataset(tuple(map(one, data)), data.name)


def fronts(data: RoutingDataset, router: Router, **options: Any) -> tuple[HybridChatModel, Any]:
    """Wrap the same recorded models in both fronts."""
    names = router.candidates
    chat = [ReplayChatModel(data=data, model=name) for name in names]
    llms = [ReplayLLM(data=data, model=name) for name in names]
    given = {"router": router, "same_models": True, **options}
    if len(names) > 2:
        return (
            HybridChatModel(candidates=list(map(Candidate, names, chat)), **given),
            HybridLLM(candidates=list(map(Candidate, names, llms)), **given),
        )
    return (
        HybridChatModel(small=chat[0], large=chat[1], **given),
        HybridLLM(small=llms[0], large=llms[1], **given),
    )


def essence(decision: RoutingDecision) -> dict[str, Any]:
    """Return what does not depend on the clock or the process's key."""
    return decision.model_dump(exclude={"latency_ms", "query_hash"})


@pytest.fixture(scope="module")
def made() -> RoutingDataset:
    return answered(known_truth(QUESTIONS, split="test", seed=7))


@pytest.mark.parametrize("dial", DIALS, ids=json.dumps)
def test_both_fronts_decide_alike(
    dial: dict[str, Any], made: RoutingDataset, calibrated: Router
) -> None:
    model, llm = fronts(made, calibrated, record_query=True)
    ours = [essence(llm.route(query, **dial)) for query in made.queries]
    theirs = [essence(model.route(query, **dial)) for query in made.queries]
    assert ours == theirs
    with hybrid_options(**dial):
        assert [essence(llm.route(query)) for query in made.queries[:20]] == theirs[:20]
    if dial and "route" not in dial:
        built_in = fronts(made, calibrated, record_query=True, **dial)[1]
        assert [essence(built_in.route(query)) for query in made.queries[:20]] == theirs[:20]


def test_both_fronts_call_the_same_models(made: RoutingDataset, calibrated: Router) -> None:
    model, llm = fronts(made, calibrated, cost_advantage=0.4)
    for query in made.queries[:60]:
        chatted = model.invoke(query)
        completed = llm.complete(query)
        assert completed.text == chatted.content
        assert completed.additional_kwargs["id"] == chatted.response_metadata["id"]


@pytest.fixture(scope="module")
def within_tasks(fitted_by_task: Router) -> dict[Any, Router]:
    """Calibrate by each way of knowing the task."""
    validation = by_task(320, split="validation", seed=1)
    return {by: fitted_by_task.calibrate(validation, by_task=by, least_per_task=20) for by in WAYS}


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize(
    "dial",
    [
        {"confidence": "estimate"},
        {"threshold": -0.3},
        {"cost_advantage": 0.35},
        {"max_quality_drop": 0.1, "confidence": "estimate"},
        {"max_quality_drop": 0.1},
    ],
    ids=json.dumps,
)
def test_both_fronts_decide_alike_within_tasks(
    dial: dict[str, Any], by: Any, within_tasks: dict[Any, Router]
) -> None:
    data = answered(by_task(60, split="test", seed=2))
    model, llm = fronts(data, within_tasks[by], record_query=True)
    served = set()
    for at, query in enumerate(data.queries):
        task = TASKS[at % len(TASKS)]
        ours = essence(llm.route(query, task=task, **dial))
        assert ours == essence(model.route(query, task=task, **dial))
        with hybrid_options(task=task, **dial):
            assert essence(llm.route(query)) == essence(model.route(query)) == ours
        with routing_query(query, task=task):
            stated = essence(llm.route(query, **dial))
            assert stated == essence(model.route(query, **dial))
        assert stated | {"query_source": ours["query_source"]} == ours
        served.add(ours["calibrated_task"])
    if dial != {"max_quality_drop": 0.1}:  # there, too few labels of a task promise anything
        assert len(served) == 1 if by == "off" or "threshold" in dial else len(served) > 2


@pytest.mark.parametrize("dial", [*DIALS[:-2], {"route": "mini"}], ids=json.dumps)
def test_both_fronts_decide_alike_between_three_models(
    dial: dict[str, Any], calibrated_three: Router
) -> None:
    data = answered(three_models(60, split="test", seed=2))
    model, llm = fronts(data, calibrated_three)
    ours = [essence(llm.route(query, **dial)) for query in data.queries]
    assert ours == [essence(model.route(query, **dial)) for query in data.queries]
    for query in data.queries[:10]:
        assert llm.complete(query, **dial).text == model.invoke(query, **dial).content


@pytest.mark.data
def test_both_fronts_decide_alike_on_real_questions(
    remembering_router: Router, measured_pair: RoutingDataset
) -> None:
    router, test = remembering_router, measured_pair
    model, llm = fronts(test, router)
    sent = set()
    for dial in DIALS:
        ours = [essence(llm.route(query, **dial)) for query in test.queries]
        assert ours == [essence(model.route(query, **dial)) for query in test.queries]
        sent |= {decision["candidate"] for decision in ours}
    assert sent == set(test.models)
    threshold = router.threshold_of(cost_advantage=0.5)
    asked = {"threshold": threshold, "second_look": False}  # as the report's figures are
    answers = [llm.complete(query, **asked) for query in test.queries]
    away = sum(decision_of(answer)["index"] == 0 for answer in answers)
    quality = sum(answer.additional_kwargs["quality"] for answer in answers)
    promised = router.evaluate(test, resamples=2, threshold=threshold).dial
    assert promised is not None
    assert away / len(test) == promised["cost_advantage"]
    assert quality / len(test) == pytest.approx(promised["quality"])
