"""Three models and more behind one: candidates by name, price, capability, and task."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.prompts import ChatPromptTemplate

from langchain_hybrid import HybridChatModel, ReplayChatModel, with_routing_query
from shared_router import Candidate, Router, RoutingDataset, hybrid_options, routing_query
from shared_router.errors import CandidateError
from shared_router.testing import fixed_router
from tests.langchain.doubles import Child, decision_of
from tests.material import three_models

if TYPE_CHECKING:
    from pathlib import Path

THREE = ("nano", "mini", "maxi")
VALIDATION = three_models(120, split="validation", seed=1)


@pytest.fixture(scope="module")
def router(calibrated_three: Router) -> Router:
    return calibrated_three


@pytest.fixture
def model(router: Router) -> HybridChatModel:
    candidates = [Candidate(name, ReplayChatModel(data=VALIDATION, model=name)) for name in THREE]
    return HybridChatModel(candidates=candidates, router=router)


def children(*names: str, **options: Any) -> list[Candidate]:
    return [Candidate(name, Child(model=name), **options) for name in names]


def replayed(model: HybridChatModel, **options: Any) -> dict[str, Any]:
    """Ask every query; return mean quality, mean cost and the models that answered."""
    answers = [model.invoke(query, **options) for query in VALIDATION.queries]
    return {
        "quality": np.mean([answer.response_metadata["quality"] for answer in answers]),
        "usd": np.mean([answer.response_metadata["cost_usd"] for answer in answers]),
        "models": {decision_of(answer)["candidate"] for answer in answers},
    }


def test_the_line_goes_from_the_dearest_to_the_cheapest(model: HybridChatModel) -> None:
    dear, cheap = (replayed(model, threshold=at) for at in (math.inf, -math.inf))
    assert (dear["models"], cheap["models"]) == ({"maxi"}, {"nano"})
    between = replayed(model, cost_advantage=0.9)
    assert len(between["models"]) > 1
    assert cheap["usd"] < between["usd"] < dear["usd"]
    mixed = cheap["quality"] + (dear["quality"] - cheap["quality"]) * (
        (between["usd"] - cheap["usd"]) / (dear["usd"] - cheap["usd"])
    )
    assert between["quality"] > mixed  # better than tossing a coin between the two ends


def test_a_dial_is_measured_against_all_reference(model: HybridChatModel, router: Router) -> None:
    dear = replayed(model, route="maxi")
    found = replayed(model, max_quality_drop=0.05)
    assert 1 - found["quality"] / dear["quality"] <= 0.05 + 1e-9
    curve = router.curve
    assert curve is not None
    assert curve.reference_quality == pytest.approx(dear["quality"])


async def test_every_way_of_calling_routes_alike(model: HybridChatModel) -> None:
    query = VALIDATION.queries[0]
    expected = model.route(query, cost_advantage=0.8).candidate
    streamed = list(model.stream(query, cost_advantage=0.8))
    found = [
        decision_of(model.invoke(query, cost_advantage=0.8)),
        decision_of(await model.ainvoke(query, cost_advantage=0.8)),
        decision_of(model.batch([query], cost_advantage=0.8)[0]),
        decision_of(streamed[0]),
    ]
    assert {one["candidate"] for one in found} == {expected}
    assert all(len(one["scores"]) == 2 for one in found)


def test_it_stands_in_a_chain(model: HybridChatModel) -> None:
    prompt = ChatPromptTemplate.from_template("Answer in one word.\n\n{question}")
    chain = with_routing_query(prompt | model, key="question")
    answer = chain.invoke({"question": VALIDATION.queries[3]})
    assert decision_of(answer)["query_source"] == "explicit"
    assert answer.content.endswith(f"answers {VALIDATION.ids[3]}")


def test_each_can_be_forced_by_name(model: HybridChatModel) -> None:
    query = VALIDATION.queries[0]
    for route, chosen in (("nano", "nano"), ("mini", "mini"), ("small", "nano"), ("large", "maxi")):
        assert model.route(query, route=route).candidate == chosen


def test_one_that_cannot_call_tools_is_passed_over() -> None:
    cannot, *able = children("nano", "mini", "maxi")
    cannot = Candidate("nano", cannot.model, supports_tools=False)
    router = fixed_router([5.0, 1.0], candidates=THREE)
    model = HybridChatModel(candidates=[cannot, *able], router=router)
    assert model.route("q").candidate == "nano"
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}
    assert model.route("q", tools=[tool]).candidate == "mini"


def test_prices_weigh_models_whose_costs_nobody_measured() -> None:
    """nano is a little worse than mini: whether that is worth it depends on mini's price."""
    router = fixed_router([0.0, 0.3], candidates=THREE)

    def chosen(mini_usd: float) -> str:
        prices = zip(THREE, (1.0, mini_usd, 10.0), strict=True)
        model = HybridChatModel(
            candidates=[Candidate(name, Child(model=name), usd, usd) for name, usd in prices],
            router=router,
        )
        return model.route("q", threshold=-0.5).candidate

    assert (chosen(2.0), chosen(9.0)) == ("mini", "nano")


def test_wrong_bindings_are_refused(router: Router) -> None:
    with pytest.raises(CandidateError, match=r"chooses between 3 candidates .*; 2 models are"):
        HybridChatModel(small=Child(model="a"), large=Child(model="b"), router=router)
    usd = {"nano": 5.0, "mini": 9.0, "maxi": 1.0}
    dear = [Candidate(name, Child(model=name), price, price) for name, price in usd.items()]
    with pytest.raises(CandidateError, match="list the dearest model last, or leave the dearer"):
        HybridChatModel(candidates=dear, router=fixed_router([0.0, 0.0], candidates=THREE))


def test_every_way_of_naming_a_task_reaches_the_dial(calibrated_by_task: Router) -> None:
    model = HybridChatModel(
        candidates=children("small", "large"),
        router=calibrated_by_task,
        max_quality_drop=0.1,
        confidence="estimate",
    )
    with hybrid_options(task="made/good"):
        inside = model.invoke("please no. 1")
    with routing_query("please no. 1", task="made/good"):
        stated = model.invoke("please no. 1")
    found = [
        inside,
        stated,
        model.invoke("please no. 1", task="made/good"),
        model.invoke("please no. 1", config={"configurable": {"hybrid_task": "made/good"}}),
    ]
    assert {decision_of(one)["calibrated_task"] for one in found} == {"made/good"}
    unknown = decision_of(model.invoke("please no. 1", task="elsewhere"))
    assert (unknown["task"], unknown["wider_because"]) == ("elsewhere", "unknown_task")


@pytest.mark.data
def test_eleven_real_models_are_replayed(
    data_folder: Path, tiny_encoder: str, in_tiny_cache: Path
) -> None:
    data = RoutingDataset.load(data_folder / "routerbench_zeroshot.jsonl.gz")
    data = data.where(lambda record: len(record.outcomes) == len(data.models))
    costs = dict(zip(data.models, data.mean_costs_usd(data.models), strict=True))
    names = sorted(costs, key=lambda name: costs[name] or 0.0)
    train, held_out = data.take(range(600)), data.take(range(600, 900))
    router = Router.fit(train, names, encoder=tiny_encoder).calibrate(held_out)
    candidates = [Candidate(name, ReplayChatModel(data=held_out, model=name)) for name in names]
    model = HybridChatModel(candidates=candidates, router=router)
    answers = [model.invoke(query, cost_advantage=0.7) for query in held_out.queries]
    chosen = [decision_of(answer)["candidate"] for answer in answers]
    assert len(set(chosen)) >= 2
    assert np.mean([name != names[-1] for name in chosen]) == pytest.approx(0.7, abs=0.01)
    paid = np.mean([answer.response_metadata["cost_usd"] for answer in answers])
    whole = held_out.mean_costs_usd(names)[-1]
    assert whole is not None
    assert paid < 0.5 * whole
