"""What errors of models mean, on the clients' own exceptions."""

from __future__ import annotations

import json
from concurrent.futures import CancelledError
from enum import IntEnum
from typing import Any

import httpx
import openai
import pytest
from langchain_core.exceptions import (
    ModelConnectionError,
    ModelRefusalError,
    ModelTimeoutError,
    OutputParserException,
)
from langchain_openai.chat_models.base import OpenAIContextOverflowError, OpenAIRateLimitError
from langgraph.errors import GraphInterrupt
from pydantic import BaseModel, ValidationError

from shared_router.deciding.failures import (
    OF_THE_CALLER,
    are_alike,
    failure_of,
    kind_of,
)
from shared_router.errors import (
    AllCandidatesFailedError,
    CallTimeoutError,
    ConfigurationError,
    EmptyStreamError,
)

REQUEST = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions")


def answered(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Exception:
    """Make the error that OpenAI's client raises at a response."""
    client = openai.OpenAI(api_key="none", base_url="http://127.0.0.1")
    response = httpx.Response(status, json=body, request=REQUEST, headers=headers)
    return client._make_status_error_from_response(response)


def told(message: str, code: str | None = None, kind: str = "invalid_request_error") -> Any:
    return {"error": {"message": message, "type": kind, "code": code, "param": None}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "bad_request"),
        (401, "authentication"),
        (403, "authentication"),
        (404, "unknown_model"),
        (408, "timeout"),
        (413, "context_overflow"),
        (422, "bad_request"),
        (429, "rate_limit"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded"),
        (504, "timeout"),
        (529, "overloaded"),
    ],
)
def test_a_status_tells_the_kind(status: int, kind: str) -> None:
    error = answered(status, told("no"))
    assert kind_of(error) == kind
    assert failure_of(error).mendable == (kind not in OF_THE_CALLER)


@pytest.mark.parametrize(
    ("status", "message", "code", "kind"),
    [
        (
            400,
            "This model's maximum context length is 8192 tokens. However, you requested 9000",
            "context_length_exceeded",
            "context_overflow",
        ),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", None, "context_overflow"),
        (400, "The input token count (9999) exceeds the maximum", None, "context_overflow"),
        (
            400,
            "the request exceeds the available context size. try increasing it",
            None,
            "context_overflow",
        ),
        (400, "registry.ollama.ai/library/gemma:2b does not support tools", None, "tools_refused"),
        (
            400,
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser',
            None,
            "tools_refused",
        ),
        (400, "Function calling is not enabled for this model", None, "tools_refused"),
        (404, "The model `gpt-9` does not exist", "model_not_found", "unknown_model"),
        (
            400,
            "API key not valid. Please pass a valid API key.",
            "invalid_api_key",
            "authentication",
        ),
        (429, "You exceeded your current quota", "insufficient_quota", "rate_limit"),
        (400, "Invalid schema for function 'f': not an object", "invalid_function", "bad_request"),
        (400, "messages with role 'tool' must be a response to tool_calls", None, "bad_request"),
    ],
)
def test_what_a_provider_says_is_read_before_the_status(
    status: int, message: str, code: str | None, kind: str
) -> None:
    assert kind_of(answered(status, told(message, code))) == kind


class Code(IntEnum):
    TOO_MANY = 429


class GoogleError(Exception):
    code = Code.TOO_MANY


class BotoError(Exception):
    def __init__(self) -> None:
        super().__init__("An error occurred (ThrottlingException)")
        self.response = {"Error": {"Code": "ThrottlingException", "Message": "slow down"}}


class Parsed(BaseModel):
    number: int


def invalid() -> Exception:
    try:
        Parsed.model_validate({"number": "x"})
    except ValidationError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (openai.APITimeoutError(request=REQUEST), "timeout"),
        (openai.APIConnectionError(request=REQUEST), "connection"),
        (openai.APIError("overloaded", REQUEST, body={"type": "overloaded_error"}), "overloaded"),
        (openai.APIError("went wrong", REQUEST, body=None), "server_error"),
        (httpx.ReadTimeout("slow"), "timeout"),
        (httpx.RemoteProtocolError("peer closed"), "connection"),
        (ModelTimeoutError("slow"), "timeout"),
        (ModelConnectionError("down"), "connection"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "connection"),
        (json.JSONDecodeError("no", "{", 0), "unreadable"),
        (IndexError("list index out of range"), "unreadable"),
        (TypeError("Received response with null value for `choices`."), "unreadable"),
        (TypeError("f() got an unexpected keyword argument 'x'"), "bad_request"),
        (ValueError("No generations found in stream."), "unreadable"),
        (GoogleError(), "rate_limit"),
        (BotoError(), "rate_limit"),
        (RuntimeError("what?"), "unknown"),
        (GraphInterrupt(), "cancelled"),
        (CancelledError(), "cancelled"),
        (ConfigurationError("no such dial"), "configuration"),
        (CallTimeoutError("late"), "timeout"),
        (AllCandidatesFailedError("all", [OSError()]), "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_kinds_of_errors(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_langchains_own_classes_say_more_than_the_status() -> None:
    response = httpx.Response(400, request=REQUEST)
    assert kind_of(OpenAIContextOverflowError("x", response=response, body=None)) == (
        "context_overflow"
    )
    response = httpx.Response(429, request=REQUEST, headers={"Retry-After": "7"})
    failure = failure_of(OpenAIRateLimitError("x", response=response, body=None))
    assert (failure.kind, failure.retry_after_s) == ("rate_limit", 7.0)


def test_a_cause_tells_where_the_error_does_not() -> None:
    error = RuntimeError("the client failed")
    error.__cause__ = httpx.ConnectError("refused")
    assert kind_of(error) == "connection"


@pytest.mark.parametrize(
    "error", [OutputParserException("no JSON"), ModelRefusalError(), invalid(), ValueError("text")]
)
def test_an_answer_outside_its_schema_is_no_failure_of_the_model(error: Exception) -> None:
    assert kind_of(error, structured=True) == "schema"
    assert not failure_of(error, structured=True).mendable


@pytest.mark.parametrize(
    "error", [json.JSONDecodeError("no", "{", 0), ValueError("No generations found in stream.")]
)
def test_a_broken_response_is_none_of_the_schema(error: Exception) -> None:
    assert kind_of(error, structured=True) == "unreadable"


def test_the_users_rule_comes_first(caplog: pytest.LogCaptureFixture) -> None:
    def rule(error: Exception) -> bool | None:
        if isinstance(error, OSError):
            raise LookupError("a secret")
        return None if isinstance(error, ValueError) else isinstance(error, TypeError)

    assert failure_of(answered(400), rule).mendable is False
    assert failure_of(TypeError("unexpected keyword argument"), rule).mendable is True
    assert failure_of(ValueError("as usual"), rule).mendable is True
    assert failure_of(ConnectionError(), rule).mendable is True
    assert "is_mendable raised LookupError" in caplog.text
    assert "secret" not in caplog.text


def test_alike_are_pythons_own_errors_alone() -> None:
    assert are_alike([ValueError("a"), ValueError("a")])
    assert not are_alike([ValueError("a"), ValueError("b")])
    assert not are_alike([RuntimeError("down"), RuntimeError("down")])
    assert not are_alike([answered(503), answered(503)])
    assert are_alike([KeyError("name"), KeyError("name")])
    assert not are_alike([IndexError("list index out of range")] * 2)
    assert not are_alike([json.JSONDecodeError("Expecting value", "(", 0)] * 2)
    assert not are_alike([EmptyStreamError("nothing"), EmptyStreamError("nothing")])


def test_a_long_message_is_read_in_bounded_time() -> None:
    long = "model " * 20_000 + "context " * 20_000
    assert kind_of(answered(400, told(long))) == "bad_request"
