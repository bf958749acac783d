"""How sure a limit must be: given to both fronts in every way, and what is said of it once."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import re
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import ConfigurableField

from langchain_hybrid import with_routing_query
from shared_router import Router, RoutingDecision, hybrid_options, routing_query
from shared_router.errors import ConfigurationError, DialError
from tests.langchain.test_binding import look_up
from tests.llamaindex.fronts import (
    PROMISED,
    SHORT,
    TOO_LITTLE,
    LangChain,
    LlamaIndex,
    claims,
    promising,
)
from tests.llamaindex.operations import Answer
from tests.material import calibrated_router

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def router() -> Router:
    return promising()


@pytest.fixture(params=[LangChain, LlamaIndex], ids=["langchain", "llamaindex"])
def front(request: pytest.FixtureRequest) -> Any:
    return request.param


# -- ways to give a confidence --------------------------------------------------------------------


def sure(front: Any, answer: Any) -> Any:
    return front.told(answer)["confidence"]


async def test_a_confidence_is_given_as_a_dial_is(front: Any, router: Router) -> None:
    """The call's keyword goes before the block around it, that before what was constructed."""
    model = front.build(router, **PROMISED, confidence=0.8)
    asked = front.user(SHORT)
    assert (await claims(front, model, asked))[-1] == 0.8
    assert (await claims(front, model, asked, confidence=0.95))[-1] == 0.95
    with hybrid_options(confidence=0.99):
        assert (await claims(front, model, asked))[-1] == 0.99
        assert (await claims(front, model, asked, confidence=0.95))[-1] == 0.95
        with hybrid_options(max_quality_drop=0.2):  # a dial of its own, as sure as around it
            assert (await claims(front, model, asked))[-1] == 0.99
        with routing_query(SHORT):
            assert (await claims(front, model, front.user("Another.")))[-1] == 0.99
    assert (await claims(front, model, asked, confidence="estimate"))[2] == "estimated"
    assert model.route(SHORT, confidence=0.95).confidence == 0.95
    assert (await model.aroute(SHORT, confidence=0.95)).confidence == 0.95


async def test_a_confidence_in_a_langchain_config(router: Router) -> None:
    model = LangChain.build(router, **PROMISED, confidence=0.8)
    config: Any = {"configurable": {"hybrid_confidence": 0.95}}
    assert (await claims(LangChain, model, SHORT, config=config))[-1] == 0.95
    bound = model.with_config(config)
    assert (await claims(LangChain, bound, SHORT))[-1] == 0.95
    assert (await claims(LangChain, bound, SHORT, confidence=0.99))[-1] == 0.99
    with hybrid_options(confidence=0.975):
        assert (await claims(LangChain, bound, SHORT))[-1] == 0.95
    assert (await claims(LangChain, model.bind(confidence=0.99), SHORT, config=config))[-1] == 0.99
    stated = with_routing_query(model, key=lambda _: SHORT)
    assert sure(LangChain, stated.invoke("Another.", config)) == 0.95
    with pytest.raises(ConfigurationError, match="did you mean 'hybrid_confidence'"):
        model.invoke(SHORT, {"configurable": {"hybrid_confidance": 0.9}})


async def test_a_confidence_in_a_configurable_field(router: Router) -> None:
    model = LangChain.build(router, **PROMISED, confidence=0.8)
    field = model.configurable_fields(confidence=ConfigurableField(id="how_sure"))
    config: Any = {"configurable": {"how_sure": 0.99}}
    assert (await claims(LangChain, field, SHORT))[-1] == 0.8
    assert (await claims(LangChain, field, SHORT, config=config))[-1] == 0.99
    with pytest.raises(DialError, match="confidence is a number"):
        field.invoke(SHORT, {"configurable": {"how_sure": 0.2}})


def test_a_structured_answer_is_as_sure(front: Any, router: Router) -> None:
    decisions: list[RoutingDecision] = []
    model = front.build(router, **PROMISED, on_decision=[decisions.append])
    if front is LangChain:
        model.with_structured_output(Answer, confidence=0.95).invoke("Say '5'.")
    else:
        model.as_structured_llm(Answer, confidence=0.95).complete("Say '5'.")
    assert [(each.guarantee, each.confidence) for each in decisions] == [("promised", 0.95)]


BAD = (0.5, 0.2, 1, 1.0, 2, math.nan, math.inf, True, "nonsense", "0.9", "", [0.9])


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_bad_confidence_is_a_clear_error(bad: Any, front: Any, router: Router) -> None:
    says = r"confidence is a number above 0.5 and below 1, or 'estimate'.*; got "
    with pytest.raises(DialError, match=says):
        front.build(router, confidence=bad)
    model = front.build(router, **PROMISED)
    with pytest.raises(DialError, match=says):
        model.model_copy(update={"confidence": bad})
    call = model.invoke if front is LangChain else model.complete
    with pytest.raises(DialError, match=says):
        call(SHORT, confidence=bad)
    with pytest.raises(DialError, match=says), hybrid_options(confidence=bad):
        pass
    if front is LangChain and bad != "0.9":  # in a config, a text that is a number is one
        with pytest.raises(DialError, match=says):
            model.invoke(SHORT, {"configurable": {"hybrid_confidence": bad}})
        with pytest.raises(DialError, match=says):
            model.with_config(configurable={"hybrid_confidence": bad})
    assert not model.engine.candidates[0].model.requests


def test_a_near_miss_reaches_no_provider(front: Any, router: Router) -> None:
    model = front.build(router, **PROMISED)
    call = model.invoke if front is LangChain else model.complete
    with pytest.raises(ConfigurationError, match="did you mean 'confidence'"):
        call(SHORT, confidance=0.99)
    with pytest.raises(ConfigurationError, match="did you mean 'confidence'"):
        front.build(router, confidance=0.99)


def test_two_that_differ_in_confidence_are_told_apart(front: Any, router: Router) -> None:
    def named(**options: Any) -> Any:
        model = front.build(router, **options)
        return model._identifying_params if front is LangChain else model.routing

    assert named(**PROMISED)["confidence"] == 0.9
    assert named(**PROMISED, confidence="estimate")["confidence"] == "estimate"
    assert "confidence" not in named(threshold=0.0)


# -- what is said at construction -----------------------------------------------------------------


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_what_cannot_be_promised_is_said_once(
    front: Any, router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    model = front.build(router, max_quality_drop=0.001)
    (said,) = warnings_in(caplog)
    assert said.startswith(
        "max_quality_drop=0.001 cannot be promised at confidence 0.9 by router 'fixed', calibrated "
        "on 540 queries: every call under it goes to the reference. Promised now: "
        "max_quality_drop=0.01, which keeps 7"
    )
    assert "The estimate (confidence='estimate') would keep 7" in said
    assert "more labels would promise something at it." in said
    call = model.invoke if front is LangChain else model.complete
    for _ in range(2):
        call(SHORT)
    assert len(warnings_in(caplog)) == 1
    front.build(router, max_quality_drop=0.0005)
    assert len(warnings_in(caplog)) == 2


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda model: model.model_copy(),
    "model_copy, deep": lambda model: model.model_copy(deep=True),
    "model_copy, changed": lambda model: model.model_copy(update={"record_query": True}),
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301  our own
    "anew": lambda model: type(model)(
        small=model.small, large=model.large, router=model.router, **TOO_LITTLE
    ),
}
OF_LANGCHAIN: dict[str, Callable[[Any], Any]] = {
    "bind": lambda model: model.bind(stop=["x"]),
    "with_config": lambda model: model.with_config(tags=["x"]),
    "bind_tools": lambda model: model.bind_tools([look_up]),
    "configurable_fields": lambda model: model.configurable_fields(
        record_query=ConfigurableField(id="kept")
    ).with_config(configurable={"kept": True}),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_does_not_say_it_again(
    way: str, front: Any, router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    copied = COPIES[way](front.build(router, **TOO_LITTLE))
    assert copied.route(SHORT).reason == "no_promise"
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("way", OF_LANGCHAIN)
def test_what_is_made_of_a_model_does_not_say_it_again(
    way: str, router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    made = OF_LANGCHAIN[way](LangChain.build(router, **TOO_LITTLE))
    for _ in range(3):
        made.invoke(SHORT)
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize(
    "options",
    [{}, PROMISED, TOO_LITTLE | {"confidence": "estimate"}, {"cost_advantage": 0.5},
     {"threshold": 0.0}],
    ids=str,
)  # fmt: skip
def test_nothing_is_said_of_what_is_promised_or_asked_as_an_estimate(
    options: dict[str, Any], front: Any, router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    front.build(router, **options)
    front.build(calibrated_router())
    assert warnings_in(caplog) == []


@pytest.mark.parametrize(
    ("n", "options", "says"),
    [
        (60, PROMISED, r"\(too few queries: 10 to test on\)"),
        (60, PROMISED, "A few more labels may promise something at it|About [0-9]+ more labels"),
        (600, {"max_quality_drop": 0.0}, "No number of labels like these would promise it"),
        (600, PROMISED | {"confidence": 0.9999}, "tested at confidences up to 0.999"),
        (600, {"max_quality_drop_absolute": 0.001}, "Promised now: max_quality_drop=0.01, which"),
        (600, {"max_quality_drop": 0.001, "confidence": 0.99}, "at confidence 0.99 by router"),
    ],
)
def test_what_is_said_of_a_limit(
    n: int, options: dict[str, Any], says: str, front: Any, caplog: pytest.LogCaptureFixture
) -> None:
    front.build(promising(n), **options)
    (said,) = warnings_in(caplog)
    assert caplog.records[-1].name == "hybrid_llm"
    assert re.search(says, said)
