"""What the pocket server understands and says: OpenAI's requests, answers and errors."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cookbook.pocket.answering import last_asked, steps_of
from cookbook.pocket.generation import LONGEST_ANSWER, mark_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cookbook.pocket.answering import AnswerEnd, Piece
    from cookbook.pocket.generation import Step, Token

HARMLESS: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "top_p": (1,),
}
"""Parameters that would change the answer and that the models cannot follow, each with the values
that ask for nothing; absent or null asks for nothing too."""


class RequestError(Exception):
    """A request that cannot be answered, told in OpenAI's form."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> dict[str, Any]:
        """Return what the client reads."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


class StreamOptions(BaseModel):
    """How a stream ends."""

    include_usage: bool = False


class AnswerRequest(BaseModel):
    """What both endpoints read. `null` stands for the default, as with OpenAI."""

    model_config = ConfigDict(extra="allow")

    model: str
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Greedy by default: the pair's own default, not OpenAI's 1."""
    max_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def question(self) -> str:
        """The text to answer."""
        raise NotImplementedError

    @property
    def most_tokens(self) -> int:
        """The most tokens to write."""
        return self.max_tokens or LONGEST_ANSWER

    @property
    def most_likeliest(self) -> int | None:
        """How many of the likeliest tokens stand beside each log-probability, if any is told."""
        return None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def settings(self) -> dict[str, Any]:
        """Return the keywords of `PocketModel.answer`."""
        return {
            "temperature": self.temperature or 0.0,
            "max_tokens": self.most_tokens,
            "seed": self.seed,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop or (),
        }

    def refuse_unsupported(self) -> None:
        """Refuse what would be silently ignored.

        Raises:
            RequestError: If a parameter asks for what the models cannot do.
        """
        for name, value in (self.model_extra or {}).items():
            if name in HARMLESS and value is not None and value not in HARMLESS[name]:
                raise RequestError(400, _refusal(name), param=name, code="unsupported_parameter")


class TextPart(BaseModel):
    """A part of a message; the models read text alone."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """The text of all parts."""
        parts = self.content or ""
        return parts if isinstance(parts, str) else "".join(part.text for part in parts)


class ChatRequest(AnswerRequest):
    """The body of a request for a chat completion."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=1)

    @property
    def question(self) -> str:
        """The last user message: the models know no conversation."""
        return last_asked(self.messages, lambda message: message.role == "user").text

    @property
    def most_tokens(self) -> int:
        """The most tokens to write, by the new name or the old one."""
        return self.max_completion_tokens or super().most_tokens

    @property
    def most_likeliest(self) -> int | None:
        """How many of the likeliest tokens stand beside each log-probability."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def refuse_unsupported(self) -> None:
        """Refuse what would be silently ignored.

        Raises:
            RequestError: If a parameter asks for what the models cannot do, or needs another one.
        """
        super().refuse_unsupported()
        if self.top_logprobs and not self.logprobs:
            raise RequestError(
                400, "top_logprobs needs logprobs: true beside it.", param="top_logprobs"
            )


class CompletionRequest(AnswerRequest):
    """The body of a request for a completion."""

    prompt: str | list[str]

    @property
    def question(self) -> str:
        """The prompt.

        Raises:
            RequestError: If there are several.
        """
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) != 1:
            raise RequestError(
                400, f"prompt is one text; got {len(self.prompt)}: ask once each.", param="prompt"
            )
        return self.prompt[0]


def _refusal(name: str) -> str:
    if name in ("n", "best_of"):
        return f"{name} is 1 here: each request gets one answer. Ask several times for several."
    return f"{name} is not supported by the pocket models: they answer in plain text. Leave it out."


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The JSON of one answer, whole or in chunks."""

    model: str
    chat: bool
    """Whether a chat completion was asked for, or a completion."""
    most_likeliest: int | None = None
    """How many of the likeliest tokens are told beside each log-probability; `None` where none
    were asked for."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created_s: int = field(default_factory=lambda: int(time.time()))

    def whole(self, pieces: Sequence[Piece], end: AnswerEnd) -> dict[str, Any]:
        """Return the answer at once."""
        text = "".join(piece.text for piece in pieces)
        steps = steps_of([*pieces, end])
        said = {"message": {"role": "assistant", "content": text, "refusal": None}}
        choice = self._choice(said if self.chat else {"text": text}, end.finish_reason, steps)
        return self._body("", [choice], usage=usage(end))

    def first(self) -> dict[str, Any]:
        """Return the chunk that begins an answer."""
        delta = {"role": "assistant", "content": ""}
        return self._body(".chunk", [self._choice(self._delta(delta, ""), None)])

    def piece(self, piece: Piece) -> dict[str, Any]:
        """Return a chunk with text."""
        delta = self._delta({"content": piece.text}, piece.text)
        return self._body(".chunk", [self._choice(delta, None, piece.steps)])

    def last(self, end: AnswerEnd) -> dict[str, Any]:
        """Return the chunk that says why the answer ends."""
        choice = self._choice(self._delta({}, ""), end.finish_reason, end.steps or None)
        return self._body(".chunk", [choice])

    def counts(self, end: AnswerEnd) -> dict[str, Any]:
        """Return the chunk that a client gets who asked for usage."""
        return self._body(".chunk", [], usage=usage(end))

    def _delta(self, delta: Mapping[str, Any], text: str) -> dict[str, Any]:
        return {"delta": delta} if self.chat else {"text": text}

    def _choice(
        self, said: Mapping[str, Any], finish: str | None, steps: Sequence[Step] | None = None
    ) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": self._logprobs(steps), "finish_reason": finish}

    def _logprobs(self, steps: Sequence[Step] | None) -> dict[str, Any] | None:
        """Return what is known of each token, the ending mark among them where it was reached.

        `usage` counts it too, and how likely an answer was to end tells of it as much as a letter.
        """
        if self.most_likeliest is None or steps is None:
            return None
        return {"content": told_steps(steps, self.most_likeliest), "refusal": None}

    def _body(
        self, suffix: str, choices: Sequence[Mapping[str, Any]], **more: Any
    ) -> dict[str, Any]:
        kind, mark = (f"chat.completion{suffix}", "chatcmpl") if self.chat else (
            "text_completion", "cmpl",
        )  # fmt: skip
        return {
            "id": f"{mark}-{self.id}",
            "object": kind,
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
            **more,
        }


def told_steps(steps: Sequence[Step], most_likeliest: int = 0) -> list[dict[str, Any]]:
    """Return the log-probabilities of tokens, in OpenAI's form.

    Args:
        steps: The steps of an answer.
        most_likeliest: How many of the likeliest tokens stand beside each, at most 1.
    """
    return [
        {**_told(chosen), "top_logprobs": [_told(likeliest)][:most_likeliest]}
        for chosen, likeliest in steps
    ]


def _told(token: Token) -> dict[str, Any]:
    text = text_of(token.id)
    told = text or mark_of(token.id)
    return {"token": told, "logprob": token.logprob, "bytes": list(text.encode())}


def usage(end: AnswerEnd) -> dict[str, int]:
    """Return the token counts of an answer."""
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.answer_tokens,
        "total_tokens": end.total_tokens,
    }
