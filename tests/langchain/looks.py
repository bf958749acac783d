"""What tests of second looks share: models that tell log-probabilities, a scorer by words."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from langchain_hybrid import HybridChatModel
from shared_router.records import ROUTING_KEY
from shared_router.testing import FixedAnswerScorer, fixed_router
from tests.langchain.fakes import FakeChat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.messages import AIMessage

WRONG, RIGHT, DEAR = "a wrong answer", "the right answer", "the dear answer"
TWO_TOKENS = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]}


class RefusedError(Exception):
    """A request that a provider refuses."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status_code = status


class Telling(FakeChat):
    """Tells log-probabilities where it is asked for them, or refuses to."""

    logprobs: bool | None = None
    tells: Any = TWO_TOKENS
    refuses: Any = None
    """Raised where log-probabilities are asked for."""

    def _reply(self, messages: Any, stop: Any, kwargs: dict[str, Any]) -> AIMessage:
        asked = kwargs.get("logprobs", self.logprobs)
        message = super()._reply(messages, stop, {**kwargs, "logprobs": asked})
        if not asked:
            return message
        if self.refuses is not None:
            raise self.refuses
        told = {**message.response_metadata, "logprobs": self.tells}
        return message.model_copy(update={"response_metadata": told})


def by_words(text: str) -> float:
    """Score an answer that is right as good, and any other as bad."""
    return 1.0 if "right" in text else -1.0


def looking(
    small: Any = RIGHT,
    large: Any = DEAR,
    *,
    score: float = 0.0,
    answers: float | Exception | Callable[[str], float] = by_words,
    needs_logprobs: bool = False,
    **options: Any,
) -> HybridChatModel:
    """Wrap two models and a router in whose band every query lies.

    Args:
        small: What the small model answers, or the model.
        large: Likewise.
        score: Of each query; more than 0.1 is clearly the small model's, less than -0.1 is not.
        answers: Score of an answer.
        needs_logprobs: Whether answers without log-probabilities are passed on.
        **options: Of the wrapper.
    """
    pair = [
        Telling(model=name, answer=given) if isinstance(given, str) else given
        for name, given in (("small", small), ("large", large))
    ]
    scorer = FixedAnswerScorer(answers, needs_logprobs=needs_logprobs)
    router = fixed_router(score, answers=scorer)
    return HybridChatModel(small=pair[0], large=pair[1], router=router, same_models=True, **options)


def told(answer: Any) -> dict[str, Any]:
    """Return what a message tells of the routing."""
    found: dict[str, Any] = answer.response_metadata[ROUTING_KEY]
    return found


class OpenAILike(BaseHTTPRequestHandler):
    """Speaks enough of the OpenAI protocol, log-probabilities too where the server gives them."""

    def do_POST(self) -> None:
        server: Any = self.server
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append(asked)
        refused = asked.get("logprobs") and server.refuses
        body = {"error": {"message": server.refuses}} if refused else _completion(asked)
        shown = json.dumps(body).encode()
        self.send_response(400 if refused else 200)
        for name, value in (("type", "application/json"), ("length", str(len(shown)))):
            self.send_header(f"content-{name}", value)
        self.end_headers()
        self.wfile.write(shown)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": RIGHT}
    if asked.get("tools"):
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"word": "rain"}'}
        call = {"id": "1", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    if asked.get("logprobs"):
        tokens = [{**each, "bytes": None, "top_logprobs": []} for each in TWO_TOKENS["content"]]
        choice["logprobs"] = {"content": tokens, "refusal": None}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "small",
        "choices": [choice],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


@contextmanager
def openai_like(refuses: str = "") -> Iterator[Any]:
    """Run a server on a free port of 127.0.0.1; `asked` holds what it was asked.

    Args:
        refuses: What it answers, with status 400, where log-probabilities are asked for.
    """
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), OpenAILike)
    server.asked, server.refuses = [], refuses
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
