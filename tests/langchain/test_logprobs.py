"""Log-probabilities of an answer's tokens: asked for, refused, read, and taken off again."""

from __future__ import annotations

import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage
from pydantic import BaseModel, SecretStr

from langchain_hybrid.answers import read_answer
from langchain_hybrid.logprobs import refuses_logprobs, with_logprobs
from langchain_hybrid.targets import Targets
from tests.langchain.fakes import FakeChat
from tests.langchain.looks import (
    DEAR,
    RIGHT,
    TWO_TOKENS,
    WRONG,
    RefusedError,
    Telling,
    looking,
    openai_like,
)
from tests.langchain.test_attempts import Raising
from tests.langchain.test_binding import look_up
from tests.langchain.test_runs import EVENTS, WAYS, beta

if TYPE_CHECKING:
    from shared_router.records import CallRecord

pytestmark = beta
every_way = pytest.mark.parametrize("way", [*WAYS, *EVENTS])
UNKNOWN = TypeError("create() got an unexpected keyword argument 'logprobs'")
REFUSED = RefusedError("Unsupported parameter: 'logprobs'.", 400)


def telling(model: Any = None, **options: Any) -> Any:
    """Wrap a small model whose answers are looked at by their log-probabilities."""
    small = Telling(model="small", answer=RIGHT) if model is None else model
    return looking(small, needs_logprobs=True, **options)


def asked(model: FakeChat) -> list[bool | None]:
    """Say what each request said of log-probabilities."""
    return [request["logprobs"] for request in model.requests]


# -- asked for, and taken off ---------------------------------------------------------------------


@every_way
async def test_they_are_asked_for_where_answers_are_looked_at_and_taken_off(way: Any) -> None:
    model = telling(second_look=True)
    answer = await way(model, {})
    assert answer.text == RIGHT
    assert asked(model.small) == [True]
    assert "logprobs" not in answer.response_metadata
    assert answer.response_metadata["model_name"] == "small"


def test_they_are_not_asked_for_elsewhere() -> None:
    model = telling(score=0.5)
    model.invoke("Hi")
    assert asked(model.small) == [None]
    model = looking()
    model.invoke("Hi")
    assert asked(model.small) == [None]
    model = telling(answers=-1.0)
    model.invoke("Hi")
    assert asked(model.large) == [None]


@pytest.mark.parametrize("how", ["field", "bound", "keyword"])
async def test_what_the_caller_asked_for_is_kept(how: str) -> None:
    small: Any = Telling(model="small", answer=RIGHT, logprobs=True if how == "field" else None)
    model = telling(small.bind(logprobs=True) if how == "bound" else small)
    kwargs = {"logprobs": True} if how == "keyword" else {}
    for answer in (model.invoke("Hi", **kwargs), await model.ainvoke("Hi", **kwargs)):
        assert answer.text == RIGHT
        assert answer.response_metadata["logprobs"] == TWO_TOKENS


def test_a_caller_who_wants_none_gets_none() -> None:
    model = telling()
    assert model.invoke("Hi", logprobs=False).text == DEAR  # nothing to look at
    assert asked(model.small) == [False]


def test_tools_and_schemas_come_with_them() -> None:
    class Report(BaseModel):
        """A report."""

        word: str

    model = telling(answers=1.0)
    answer = model.bind_tools([look_up]).invoke("Look up rain")
    assert answer.tool_calls
    assert "logprobs" not in answer.response_metadata
    for method in ("json_schema", "function_calling"):
        plain = model.with_structured_output(Report, method=method)
        assert isinstance(plain.invoke("word=rain"), Report)
        raw = model.with_structured_output(Report, method=method, include_raw=True)
        found = raw.invoke("word=rain")
        assert isinstance(found["parsed"], Report)
        assert "logprobs" not in found["raw"].response_metadata
    assert asked(model.small) == [True] * 5
    assert model.large.requests == []


def test_a_model_that_has_no_field_for_them_is_not_asked() -> None:
    plain = FakeChat(model="small")
    assert with_logprobs(plain) is plain
    inside: Any = with_logprobs(Telling().with_retry())
    assert inside.bound.logprobs is True
    assert telling(plain).invoke("Hi").text == DEAR


def test_a_message_of_the_models_own_keeps_them() -> None:
    class Same(Telling):
        """Gives the same message again, as a cache does."""

        same: Any = None

        def _reply(self, *args: Any) -> AIMessage:
            self.same = self.same or super()._reply(*args)
            found: AIMessage = self.same
            return found

    model = telling(Same(model="small", answer=RIGHT))
    for _ in range(2):
        answer = model.invoke("Hi")
        assert answer.text == RIGHT
        assert "logprobs" not in answer.response_metadata


# -- refused --------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("error", [UNKNOWN, REFUSED])
async def test_a_model_that_refuses_is_asked_once_without_and_that_is_remembered(
    way: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[CallRecord] = []
    small = Telling(model="small", answer=RIGHT, refuses=error)
    model = telling(small, second_look=True, on_call=[heard.append])
    for _ in range(3):
        assert (await way(model, {})).text == DEAR  # nothing to look at: the reference answers
    assert asked(small) == [True, None, None, None]
    assert [record.attempts[0].look_error for record in heard] == ["no_logprobs"] * 3
    assert [record.attempts[0].error for record in heard] == [None] * 3
    said = [r for r in caplog.records if "refuses to give log-probabilities" in r.getMessage()]
    assert [r.levelno for r in said] == [logging.WARNING]


def test_it_is_remembered_by_copies_and_across_threads() -> None:
    small = Telling(model="small", answer=RIGHT, refuses=REFUSED)
    model = telling(small)
    model.invoke("Hi")
    copies = [model.bind(route=None), model.model_copy(update={"fallback": "up"}), model]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: each.invoke("Hi"), copies * 8))
    assert asked(small).count(True) == 1


def test_a_fallback_of_the_models_own_does_not_hide_it() -> None:
    refusing = Telling(model="small", answer=RIGHT, refuses=REFUSED)
    model = telling(refusing.with_fallbacks([FakeChat(model="spare", answer=RIGHT)]))
    assert model.invoke("Hi").text == DEAR
    assert model.invoke("Hi").text == DEAR
    assert asked(refusing) == [True, None]


@pytest.mark.parametrize("error", [RefusedError("no", 400), TypeError("no"), ConnectionError()])
def test_another_error_is_another_error(error: Exception) -> None:
    model = telling(Raising(model="small", error=error), fallback="off")
    with pytest.raises(type(error)):
        model.invoke("Hi")
    assert len(model.small.requests) == 1


def test_an_error_that_stays_without_them_is_no_refusal() -> None:
    """It may but quote a question about them."""

    class Quoting(Raising, Telling):
        """Raises, whether it is asked for log-probabilities or not."""

    error = RefusedError("Too long: 'What are logprobs?'", 400)
    quoting = Quoting(model="small", error=error)
    model = telling(quoting, fallback="off")
    for _ in range(2):
        with pytest.raises(RefusedError):
            model.invoke("What are logprobs?")
    assert asked(quoting) == [True, None, True, None]


def test_what_refuses_them() -> None:
    assert refuses_logprobs(UNKNOWN)
    assert refuses_logprobs(REFUSED)
    assert not refuses_logprobs(RefusedError("logprobs", 429))
    assert not refuses_logprobs(RefusedError("temperature", 400))
    wrapped = RuntimeError("failed")
    wrapped.__cause__ = REFUSED
    assert refuses_logprobs(wrapped)


def test_who_refused_is_known_in_its_process_alone() -> None:
    model = telling(Telling(model="small", answer=RIGHT, refuses=REFUSED))
    model.invoke("Hi")
    again = copy.copy(model._targets)  # as pickling does
    assert vars(again) == vars(Targets())


# -- read -----------------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    {},
    [],
    "many",
    7,
    {"content": None},
    {"content": []},
    {"content": "many"},
    {"content": [None]},
    {"content": [{"token": "a"}]},
    {"content": [{"logprob": None}]},
    {"content": [{"logprob": "much"}]},
    {"content": [{"logprob": 10**400}]},
    {"content": [{"logprob": -0.5}, {"token": "b"}]},
]


def read(tells: Any) -> Any:
    message = AIMessage("x", response_metadata={"logprobs": tells})
    given = {"structured": False, "tools_offered": False, "heard": None}
    return read_answer(message, [], **given).logprobs  # type: ignore[arg-type]


def test_they_are_read_in_order() -> None:
    assert read(TWO_TOKENS) == (-0.5, -0.25)
    assert read(TWO_TOKENS["content"]) == (-0.5, -0.25)
    heard = AIMessage("x", response_metadata={"logprobs": TWO_TOKENS})
    parsed = read_answer({"word": "x"}, [], structured=True, tools_offered=False, heard=heard)
    assert parsed.logprobs == (-0.5, -0.25)


@pytest.mark.parametrize("output", [{"word": "x"}, {"raw": 0, "parsed": {"word": "x"}}])
def test_an_answer_that_came_as_a_tool_call_has_a_text(output: dict[str, Any]) -> None:
    call = {"name": "Report", "args": {"word": "x"}, "id": "1"}
    heard = AIMessage("", tool_calls=[call])
    if "raw" in output:
        output |= {"raw": heard, "parsing_error": None}
    found = read_answer(output, [], structured=True, tools_offered=False, heard=heard)
    assert (found.text, found.tool_calls) == ("{'word': 'x'}", ("Report",))
    plain = read_answer(heard, [], structured=False, tools_offered=True, heard=None)
    assert (plain.text, plain.tool_calls) == ("", ("Report",))


@pytest.mark.parametrize("tells", ODD)
async def test_what_is_odd_is_none_and_goes_to_the_reference(tells: Any) -> None:
    assert read(tells) is None
    model = telling(Telling(model="small", answer=RIGHT, tells=tells))
    assert model.invoke("Hi").text == DEAR
    assert (await model.ainvoke("Hi")).text == DEAR
    model = looking(Telling(model="small", answer=RIGHT, tells=tells))
    assert model.invoke("Hi").text == RIGHT  # a scorer that needs none looks all the same


def test_what_is_no_number_goes_to_the_reference() -> None:
    tells = {"content": [{"logprob": float("nan")}, {"logprob": -0.5}]}
    assert len(read(tells)) == 2
    heard: list[CallRecord] = []
    small = Telling(model="small", answer=RIGHT, tells=tells)
    assert telling(small, on_call=[heard.append]).invoke("Hi").text == DEAR
    assert heard[0].attempts[0].look_error == "no_logprobs"


# -- a real client --------------------------------------------------------------------------------


def chat_openai(server: Any, **options: Any) -> Any:
    made = pytest.importorskip("langchain_openai").ChatOpenAI
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    key = SecretStr("none")
    return made(base_url=url, model="small", api_key=key, max_retries=0, **options)


async def test_a_real_client_is_asked_and_its_answers_are_read() -> None:
    heard: list[CallRecord] = []
    with openai_like() as server:
        model = telling(chat_openai(server), answers=1.0, on_call=[heard.append])
        assert model.invoke("Hi").text == RIGHT
        answer = await model.ainvoke("Hi")
        assert "logprobs" not in answer.response_metadata
        bound = model.bind_tools([look_up])
        assert bound.invoke("Look up rain").tool_calls
        kept = telling(chat_openai(server, logprobs=True), answers=1.0).invoke("Hi")
        assert len(kept.response_metadata["logprobs"]["content"]) == 2
    assert [request["logprobs"] for request in server.asked] == [True] * 4
    assert [record.attempts[0].answer_score for record in heard] == [1.0] * 3


async def test_a_real_client_that_refuses_is_asked_once_without() -> None:
    with openai_like(refuses="'logprobs' is not supported with this model.") as server:
        model = telling(chat_openai(server), answers=by_nobody)
        assert model.invoke("Hi").text == DEAR
        assert (await model.ainvoke("Hi")).text == DEAR
    assert [request.get("logprobs") for request in server.asked] == [True, None, None]


def by_nobody(_: str) -> float:
    raise AssertionError("An answer without log-probabilities is not scored.")


async def test_an_answer_in_hand_has_none_that_were_not_asked_for() -> None:
    small = Telling(model="small", answer=WRONG)
    model = looking(small, FakeChat(model="large", fail_after=0), needs_logprobs=True)
    for answer in (model.invoke("Hi"), await model.ainvoke("Hi")):
        assert answer.text == WRONG
        assert "logprobs" not in answer.response_metadata
