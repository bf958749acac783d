"""What a decision claims, through both fronts: every state, in every way of calling a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from llama_index.core.callbacks import CallbackManager

from shared_router import Candidate, Router, RoutingDecision, hybrid_options
from shared_router.engine.engine import OtherCandidatesWarning
from shared_router.errors import ConfigurationError
from shared_router.records import ROUTING_KEY
from shared_router.testing import fixed_router
from tests.langchain.fakes import Recorder
from tests.llamaindex.fakes import Events, Heard
from tests.llamaindex.fronts import (
    FIELDS,
    LONG,
    PROMISED,
    SHORT,
    TOO_LITTLE,
    LangChain,
    LlamaIndex,
    claims,
    promising,
)
from tests.material import PAIR, calibrated_router, dataset, record


@pytest.fixture(scope="module")
def router() -> Router:
    return promising()


@pytest.fixture(params=[LangChain, LlamaIndex], ids=["langchain", "llamaindex"])
def front(request: pytest.FixtureRequest) -> Any:
    return request.param


# -- the table of states --------------------------------------------------------------------------


STATES: dict[str, tuple[dict[str, Any], str, str, tuple[Any, ...]]] = {
    "promised": (PROMISED, "user", SHORT, ("small", "score", "promised", None, 0.9)),
    "promised, to the reference": (
        PROMISED, "user", LONG, ("large", "score", "promised", None, 0.9)),
    "promised, surer": (
        PROMISED | {"confidence": 0.99}, "user", SHORT, ("small", "score", "promised", None, 0.99)),
    "promised, absolute": (
        {"max_quality_drop_absolute": 0.05}, "user", SHORT,
        ("small", "score", "promised", None, 0.9)),
    "no promise": (
        TOO_LITTLE, "user", SHORT, ("large", "no_promise", "none", "no promise", None)),
    "no promise so sure": (
        {"max_quality_drop": 0.01, "confidence": 0.999}, "user", SHORT,
        ("large", "no_promise", "none", "no promise", None)),
    "estimated": (
        TOO_LITTLE | {"confidence": "estimate"}, "user", SHORT,
        ("small", "score", "estimated", "confidence='estimate'", None)),
    "later turn": (PROMISED, "later", SHORT, ("small", "score", "void", "conversation", None)),
    "later turn, no promise": (
        TOO_LITTLE, "later", SHORT, ("small", "score", "void", "conversation", None)),
    "picture": (PROMISED, "picture", SHORT, ("small", "score", "void", "kind of call", None)),
    "tools": (
        PROMISED | {"tools": True}, "user", SHORT,
        ("small", "score", "void", "kind of call", None)),
    "forced to the small model": (
        PROMISED | {"route": "small"}, "user", SHORT, ("small", "forced", "void", "forced", None)),
    "forced to the reference": (
        PROMISED | {"route": "large"}, "user", SHORT, ("large", "forced", "promised", None, 0.9)),
    "forced to the reference, no promise": (
        TOO_LITTLE | {"route": "large"}, "user", SHORT,
        ("large", "forced", "none", "no promise", None)),
    "threshold": (
        {"threshold": 0.0}, "user", SHORT, ("small", "score", "none", "no quality dial", None)),
    "cost advantage": (
        {"cost_advantage": 0.5}, "user", SHORT,
        ("small", "score", "none", "no quality dial", None)),
    "cost advantage, surer": (
        {"cost_advantage": 0.5, "confidence": 0.99}, "user", SHORT,
        ("small", "score", "none", "no quality dial", None)),
    "nobody asked": (PROMISED, "nobody", "", ("large", "no_query", "promised", None, 0.9)),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
async def test_each_state_of_a_decision(state: str, front: Any, router: Router) -> None:
    options, kind, text, expected = STATES[state]
    asked = getattr(front, kind)(*[text] if text else [])
    assert await claims(front, front.build(router), asked, **options) == expected
    built_in = {name: value for name, value in options.items() if name not in ("route", "tools")}
    rest = {name: value for name, value in options.items() if name in ("route", "tools")}
    assert await claims(front, front.build(router, **built_in), asked, **rest) == expected


async def test_an_unpromised_default_is_followed_by_its_estimate(front: Any) -> None:
    expected = ("small", "score", "estimated", "not promised", None)
    assert await claims(front, front.build(calibrated_router()), front.user(SHORT)) == expected


async def test_nothing_is_claimed_without_a_calibration(front: Any) -> None:
    model = front.build(fixed_router(1.0), confidence=0.95)
    expected = ("small", "score", "none", "not calibrated", None)
    assert await claims(front, model, front.user(SHORT)) == expected


async def test_a_broken_scorer_sends_to_the_reference_which_adds_no_loss(
    front: Any, router: Router
) -> None:
    def fail(text: str) -> float:
        raise ValueError(text)

    broken = Router(candidates=PAIR, scorer=fixed_router(fail).scorer, curve=router.curve,
                    promises=router.promises, name="broken")  # fmt: skip
    found = await claims(front, front.build(broken, **PROMISED), front.user(SHORT))
    assert found == ("large", "router_error", "promised", None, 0.9)


async def test_other_candidates(front: Any, router: Router) -> None:
    pair = {"small": front.model("nano"), "large": front.model("large")}
    with pytest.warns(OtherCandidatesWarning):
        model = front.build(router, **pair, **TOO_LITTLE)
    expected = ("nano", "score", "void", "other candidates", None)
    assert await claims(front, model, front.user(SHORT)) == expected
    assert await claims(front, model, front.user(SHORT), confidence="estimate") == expected
    with pytest.raises(ConfigurationError, match="other models than those bound"):
        await front.answers(model, front.user(SHORT), confidence=0.9)
    with pytest.raises(ConfigurationError, match="other models"), hybrid_options(confidence=0.9):
        await front.answers(model, front.user(SHORT))
    with (
        pytest.warns(OtherCandidatesWarning),
        pytest.raises(ConfigurationError, match=r"confidence=0\.9 cannot be kept"),
    ):
        front.build(router, **pair, **PROMISED, confidence=0.9)
    stated = front.build(router, **pair, **PROMISED, confidence=0.9, same_models=True)
    expected = ("nano", "score", "promised", None, 0.9)
    assert await claims(front, stated, front.user(SHORT)) == expected


async def test_a_guard_to_the_cheaper_model(front: Any, router: Router) -> None:
    small, large = (Candidate(name, front.model(name), context_window=100) for name in PAIR)
    unable = Candidate("large", large.model, supports_tools=False)
    model = front.build(router, candidates=[small, unable], **PROMISED)
    found = await claims(front, model, front.user(SHORT), tools=True)
    assert found == ("small", "capability", "void", "capability", None)
    wide = Candidate("small", small.model, context_window=100_000)
    model = front.build(router, candidates=[wide, large], **PROMISED)
    found = await claims(front, model, front.user("word " * 500))
    assert found == ("small", "context_window", "void", "context_window", None)


async def test_a_guard_to_the_reference_changes_nothing(front: Any, router: Router) -> None:
    small = Candidate("small", front.model("small"), context_window=100)
    large = Candidate("large", front.model("large"), context_window=100_000)
    model = front.build(router, candidates=[small, large], **PROMISED)
    found = await claims(front, model, front.user("word " * 500))
    assert found == ("large", "context_window", "promised", None, 0.9)


async def test_a_call_without_a_query_to_the_cheaper_model(router: Router) -> None:
    llm = LlamaIndex.build(router, no_query={"other": "small"}, **PROMISED)
    found = await claims(LlamaIndex, llm, LlamaIndex.nobody())
    assert found == ("small", "no_query", "void", "no_query", None)


async def test_several_models_are_estimated(front: Any) -> None:
    names = ("nano", "mini", "maxi")
    rows = [record(f"{i}", "q", "v", **dict.fromkeys(names, 1.0)) for i in range(300)]
    router = fixed_router([1.0, 1.0], candidates=names)
    router = router.with_costs({"nano": 0.1, "mini": 0.2, "maxi": 1.0})
    candidates = [Candidate(name, front.model(name)) for name in names]
    model = front.build(router.calibrate(dataset(*rows)), candidates=candidates, **PROMISED)
    expected = ("nano", "score", "estimated", "more than two models", None)
    assert await claims(front, model, front.user(SHORT)) == expected


# -- answers to tools -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        (PROMISED, PROMISED, ("sticky", "promised", None, 0.9)),
        (PROMISED, PROMISED | {"tools": True}, ("sticky", "promised", None, 0.9)),
        (PROMISED | {"route": "small"}, PROMISED, ("sticky", "void", "forced", None)),
        (TOO_LITTLE | {"confidence": "estimate"}, PROMISED,
         ("sticky", "estimated", "confidence='estimate'", None)),
        (PROMISED, TOO_LITTLE, ("sticky", "void", "sticky", None)),
        (PROMISED, PROMISED | {"confidence": 0.99}, ("sticky", "void", "sticky", None)),
        (PROMISED, PROMISED | {"confidence": "estimate"}, ("sticky", "void", "sticky", None)),
        (PROMISED, {"threshold": 0.0}, ("sticky", "none", "no quality dial", None)),
    ],
)  # fmt: skip
async def test_an_answer_to_tools_claims_what_chose_their_caller(
    first: dict[str, Any], then: dict[str, Any], expected: tuple[Any, ...],
    front: Any, router: Router,
) -> None:  # fmt: skip
    model = front.build(router)
    answer = (await front.answers(model, front.user(SHORT), **first))[0]
    found = await claims(front, model, front.after_tools(SHORT, answer), **then)
    assert found == ("small", *expected)


@pytest.mark.parametrize(
    "forged",
    [{"dial": np.zeros(2)}, {"dial_value": np.zeros(2)}, {"dial_value": "0.05"}, {"dial": None},
     {"confidence": [0.9]}, {"guarantee": np.zeros(2)}, {"guarantee": ["promised"]}],
    ids=str,
)  # fmt: skip
async def test_what_a_message_carries_is_not_trusted(
    forged: dict[str, Any], router: Router
) -> None:
    """Histories come from anywhere: no call breaks by one, and no promise is made by one."""
    model = LangChain.build(router, **PROMISED)
    answer = model.invoke(SHORT)
    answer.response_metadata[ROUTING_KEY] = LangChain.told(answer) | forged
    found = await claims(LangChain, model, LangChain.after_tools(SHORT, answer))
    assert found == ("small", "sticky", "void", "sticky", None)


# -- where it is told -----------------------------------------------------------------------------


@pytest.mark.parametrize("dial", [PROMISED, TOO_LITTLE], ids=["promised", "no promise"])
def test_every_carrier_in_langchain_tells_the_claim(dial: dict[str, Any], router: Router) -> None:
    decisions: list[RoutingDecision] = []
    recorder = Recorder()
    model = LangChain.build(router, **dial, on_decision=[decisions.append])
    answer = model.invoke(SHORT, {"callbacks": [recorder]})
    (llm,), router_run = recorder.llms, recorder.of("HybridRouter")
    carried = [LangChain.told(answer), llm.metadata[ROUTING_KEY], router_run.outputs]
    carried += [data for name, data, _ in recorder.events if name == ROUTING_KEY]
    assert len(carried) == 4
    told = {name: getattr(decisions[0], name) for name in FIELDS}
    assert [{name: each[name] for name in FIELDS} for each in carried] == [told] * 4


@pytest.mark.parametrize("dial", [PROMISED, TOO_LITTLE], ids=["promised", "no promise"])
def test_every_carrier_in_llamaindex_tells_the_claim(
    dial: dict[str, Any], router: Router, events: Events
) -> None:
    decisions: list[RoutingDecision] = []
    heard = Heard()
    llm = LlamaIndex.build(
        router, **dial, on_decision=[decisions.append], callback_manager=CallbackManager([heard])
    )
    answer = llm.chat(LlamaIndex.user(SHORT))
    (event,) = events.of("RoutingDecisionEvent")
    called = [payload for _, name, payload in heard.events if name == ROUTING_KEY and payload]
    carried = [LlamaIndex.told(answer), event.model_dump(), called[0]]
    told = {name: getattr(decisions[0], name) for name in FIELDS}
    assert [{name: each[name] for name in FIELDS} for each in carried] == [told] * 3
