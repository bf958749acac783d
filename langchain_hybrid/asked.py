"""What is asked of each attempt of a call, and what is heard of it until its answer is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_hybrid.answers import annotated
from langchain_hybrid.hearing import Hearing, Hushed, Showing, heard, hears_tokens, hushed
from langchain_hybrid.logprobs import without_logprobs

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import RunnableConfig

    from langchain_hybrid.targets import Target
    from shared_router.deciding.attempts import Attempt
    from shared_router.engine.calls import Call

_NOTHING: Any = object()


@dataclass(eq=False)
class Heard:
    """One attempt, as it is asked and heard."""

    config: RunnableConfig = field(repr=False)
    """What it is called with."""
    hearing: Hearing | None = None
    """Listens where tokens may be shown, or an answer may be rejected."""
    hushed: Hushed = field(default_factory=Hushed, repr=False)
    """Handlers that hear of the answer once it is accepted."""
    adds_logprobs: bool = False
    """Whether the model gives log-probabilities that the caller did not ask for."""
    output: Any = field(default=_NOTHING, repr=False)
    """What came of it."""

    @property
    def message(self) -> AIMessage | None:
        """The message behind the answer, where it was heard."""
        return self.hearing.message if self.hearing else None

    @property
    def refused(self) -> bool:
        """Whether the model refused to give log-probabilities that we alone asked for."""
        hearing = self.hearing if self.adds_logprobs else None
        return hearing is not None and hearing.refused and not hearing.given_up

    def came_to(self, output: Any) -> Any:
        """Keep what came of it, and return it."""
        self.output = output
        return output

    def shown(self, output: Any) -> Any:
        """Return an answer without what the caller did not ask for."""
        return without_logprobs(output) if self.adds_logprobs else output


class Asked:
    """The attempts of one call so far; the last one is under way.

    Args:
        target: Finds what to call for an attempt.
        messages: The input, for handlers that hear of an answer afterwards.
        recorded: Whether a record wants the message behind an answer.
    """

    def __init__(self, target: Target, messages: list[BaseMessage], *, recorded: bool) -> None:
        self._target, self._messages, self._recorded = target, messages, recorded
        self._tried: list[Heard] = []

    def begin(self, config: RunnableConfig, step: Attempt) -> Heard:
        """Prepare an attempt: what it is called with, and what has to be heard of it."""
        self.give_up()
        begun = Heard(config, adds_logprobs=self._target.adds_logprobs(step))
        if step.held:
            begun.config, begun.hushed = hushed(config)
        if step.held or self._recorded or _shows_tokens(config):
            begun.hearing = Hearing()
            begun.config = heard(begun.config, begun.hearing)
        self._tried.append(begun)
        return begun

    def give_up(self) -> None:
        """Let an attempt that is under way, or was, show nothing any more."""
        if self._tried and self._tried[-1].hearing is not None:
            self._tried[-1].hearing.given_up = True

    def committed(self) -> bool:
        """Tell whether a token of the attempt under way has been shown."""
        last = self._tried[-1] if self._tried else None
        if last is None or last.hearing is None:
            return False
        return last.hearing.shown and not last.hushed.handlers

    def message_of(self, output: Any) -> AIMessage | None:
        """Return the message that an answer was parsed from, where it was heard."""
        return self._of(output).message

    def _of(self, output: Any) -> Heard:
        """Find the attempt that an answer is of; what a stream came to is the last one's."""
        known = (each for each in reversed(self._tried) if each.output is output)
        return next(known, self._tried[-1])

    def given(self, call: Call) -> Any:
        """Return the whole answer that is given, marked with who gave it."""
        return annotated(self._of(call.answer).shown(call.answer), call.stable())

    def _showing(self, call: Call) -> Showing | None:
        """Return what handlers that show tokens are still to be told."""
        given = self._of(call.answer)
        if not given.hushed.handlers or given.message is None:
            return None
        model = call.terms.candidates[call.index].model
        return Showing(given.hushed, model, self._messages, given.shown(given.message))

    def show(self, call: Call) -> None:
        """Tell handlers that show tokens of an answer that was held back."""
        showing = self._showing(call)
        if showing is not None:
            showing.show()

    async def ashow(self, call: Call) -> None:
        """Tell handlers that show tokens of an answer that was held back."""
        showing = self._showing(call)
        if showing is not None:
            await showing.ashow()


def _shows_tokens(config: RunnableConfig) -> bool:
    """Tell whether a token may be shown."""
    handlers = getattr(config.get("callbacks"), "handlers", ())
    return any(hears_tokens(handler) for handler in handlers)
