"""Which text to route by: pure conversion from what a call was given to a `RoutingQuery`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from llama_index.core.agent.workflow.prompts import DEFAULT_STATE_PROMPT
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.prompts import ChatPromptTemplate, SelectorPromptTemplate
from llama_index_instrumentation.dispatcher import active_instrument_tags

from llamaindex_hybrid.kinds import kind_of_prompt, kind_of_text
from llamaindex_hybrid.spans import enclosing, text_of_query
from shared_router.asking.questions import is_tool_noise, without_harness
from shared_router.asking.texts import MAX_CHARACTERS, text_ends
from shared_router.asking.turns import query_in_context
from shared_router.context import current_query
from shared_router.records import RoutingQuery
from shared_router.support.processes import cached_property

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from llama_index.core.prompts import BasePromptTemplate

    from llamaindex_hybrid.kinds import Kind
    from llamaindex_hybrid.spans import Enclosing
    from shared_router.asking.turns import Role

    Condensed = Callable[["Asked", str], str | None]

QUERY_TAG = "routing_query"
"""Key of LlamaIndex's `instrument_tags` that states the user's question."""
QUERY_VARIABLES = ("query_str", "question", "query")
"""Prompt variables that hold the user's question, surest first."""

MEDIA = frozenset({"image", "audio", "video", "document"})
"""Types of content blocks that no calibration on texts has held."""
_WAYS = "routing_query(...), a prompt with the variable query_str, or track_queries()"
_ASSISTANT = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)
_BEFORE_STATE, _, _REST = DEFAULT_STATE_PROMPT.partition("{state}")
_BEFORE_MESSAGE, _, _AFTER_MESSAGE = _REST.partition("{msg}")
_TRANSCRIPT = "<current_conversation>"
MOST_LOOKED_AT = 256
"""Turns of a transcript that are looked at for the user's last words, and messages of a turn."""
_USER, _MESSAGE = ("\t<user>\n", "\t</user>\n"), ("\t\t<message>", "</message>\n")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one call was given, whatever its form."""

    read: Callable[[], Sequence[ChatMessage]] = field(repr=False)
    """Returns the messages; called at most once, and only where they are looked at."""
    prompt: BasePromptTemplate | None = field(default=None, repr=False)
    """The prompt, where the call has one."""
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Its variables, the call's before its own."""
    keywords: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the call says to the model beside that, such as a temperature."""
    tools: Sequence[Any] = ()
    """The tools it brings."""
    schema: Any = None
    """The class that it wants an object of."""

    @cached_property
    def messages(self) -> Sequence[ChatMessage]:
        """The messages that reach the model."""
        return self.read()

    @cached_property
    def said_last(self) -> tuple[int, str] | None:
        """The last user message that is no tool noise: its position and its text."""
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position].role == MessageRole.USER:
                text = _said_by_user(self.text_at(position))
                if text.strip() and not is_tool_noise(text):
                    return position, text
        return None

    @cached_property
    def _texts(self) -> dict[int, str]:
        return {}

    def text_at(self, position: int) -> str:
        """Return the text of a message, which is put together once."""
        if position not in self._texts:
            self._texts[position] = text_of(self.messages[position])
        return self._texts[position]

    def backwards(self) -> Iterator[tuple[Role, str]]:
        """Yield what user and assistant said, the newest first."""
        for position in range(len(self.messages) - 1, -1, -1):
            role = self.messages[position].role
            if role in _ASSISTANT:
                yield "assistant", self.text_at(position)
            elif role == MessageRole.USER:
                yield from _user_turns(self.text_at(position))


@dataclass(frozen=True)
class Found:
    """The query of a call, or which kind of call has none."""

    query: RoutingQuery | None = None
    kind: Kind = "other"


def _nothing_condensed(asked: Asked, message: str) -> None:
    """Know of no question that a message was condensed to."""


def find_query(
    asked: Asked, variables: Sequence[str], condensed: Condensed = _nothing_condensed
) -> Found:
    """Find what the user asked, and what was retrieved for it where `track_queries` is on.

    In this order: `routing_query(...)` or `instrument_tags`; prompt variables; the enclosing span
    (`track_queries`); the last user turn. A prompt variable and a last turn that say little by
    themselves ("yes", "explain step 3") are scored with what they refer to, or as the question
    they were condensed to; a text longer than the encoder reads is narrowed to its final question
    paragraph.

    Args:
        asked: What the call was given.
        variables: Prompt variables that hold a question, surest first.
        condensed: Returns the question that a message was condensed to, where one is known.

    Returns:
        The query and its source, or the kind of call that has none.
    """
    around = enclosing()
    found = _find(asked, variables, around, condensed)
    query = found.query
    if query is None or query.retrieval is not None or around.retrieval is None:
        return found
    if query.source == "explicit" and around.query not in (None, query.text):
        return found  # retrieved for another question, as for a part of this one
    return Found(replace(query, retrieval=around.retrieval, retrieval_source="span"))


def _find(asked: Asked, variables: Sequence[str], around: Enclosing, condensed: Condensed) -> Found:
    stated = current_query() or _tagged()
    if stated is not None:
        return Found(stated)
    variable = variable_query(asked.variables, variables)
    if variable is not None:
        return Found(_in_conversation(variable, asked, condensed))
    if around.query is not None:
        return Found(RoutingQuery(text=around.query, source="span"))
    if around.extracting:
        return Found(kind="extract")
    kind = kind_of_prompt(asked.prompt) if asked.prompt is not None else None
    _, text = (None if kind else asked.said_last) or (None, None)
    kind = kind or (kind_of_text(text) if text else None)
    if kind is not None or text is None:
        return Found(kind=kind or "other")
    return Found(query_in_context(asked.backwards(), _WAYS))


def _in_conversation(variable: RoutingQuery, asked: Asked, condensed: Condensed) -> RoutingQuery:
    """Find what a prompt's question refers to, where the prompt holds a conversation."""
    prompt = asked.prompt
    if prompt is None:
        return variable
    question = condensed(asked, variable.text)
    if question is not None:
        return RoutingQuery(text=question, source="conversation")
    said = Asked(read=lambda: messages_of(prompt)).backwards()
    return query_in_context(said, _WAYS, variable) or variable


def _user_turns(text: str) -> Iterator[tuple[Role, str]]:
    """Yield the turns of a user's message; a transcript of a conversation holds several."""
    if not text.startswith(_TRANSCRIPT):
        yield "user", _said_by_user(text)
        return
    said = _said_last(text)
    yield "user", next(said, text)
    for each in said:
        yield from (("assistant", ""), ("user", each))


def _tagged() -> RoutingQuery | None:
    text = text_of_query(active_instrument_tags.get().get(QUERY_TAG))
    return None if text is None else RoutingQuery(text=text)


def variable_query(values: Mapping[str, Any], names: Sequence[str]) -> RoutingQuery | None:
    """Find the question among a prompt's variables."""
    texts = (text_of_query(values.get(name)) for name in names)
    found = next((text for text in texts if text is not None), None)
    return None if found is None else RoutingQuery(text=found, source="prompt_variable")


def user_text(message: ChatMessage) -> str:
    """Return what the user said in a message, without what an agent put around it."""
    return _said_by_user(text_of(message))


def _said_by_user(text: str) -> str:
    if text.startswith(_TRANSCRIPT):
        return next(_said_last(text), text)
    return _without_state(without_harness(text))


def _without_state(text: str) -> str:
    """Cut away the state that an agent puts before a message."""
    if not text.startswith(_BEFORE_STATE):
        return text
    _, found, message = text[len(_BEFORE_STATE) :].partition(_BEFORE_MESSAGE)
    if not found or not message.endswith(_AFTER_MESSAGE):
        return text
    return message.removesuffix(_AFTER_MESSAGE)


def _said_last(transcript: str) -> Iterator[str]:
    """Yield the user's messages of a transcript, as agents write it, the last one first."""
    for said in islice(_between_backwards(transcript, *_USER), MOST_LOOKED_AT):
        text = "\n".join(islice(_between(said, *_MESSAGE), MOST_LOOKED_AT))
        if text.strip() and not is_tool_noise(text):
            yield text


def _between_backwards(text: str, start: str, end: str) -> Iterator[str]:
    """Yield what `_between` does, the last one first."""
    stop = text.rfind(end)
    while stop >= 0:
        before = text.rfind(end, 0, stop)
        at = text.find(start, before + len(end) if before >= 0 else 0, stop)
        if at >= 0:
            yield text[at + len(start) : stop]
        stop = before


def _between(text: str, start: str, end: str) -> Iterator[str]:
    """Yield what stands between marks; a pattern would look for each end in the whole text."""
    at = text.find(start)
    while at >= 0:
        begin = at + len(start)
        stop = text.find(end, begin)
        if stop < 0:
            return
        yield text[begin:stop]
        at = text.find(start, stop + len(end))


def text_of(message: ChatMessage) -> str:
    """Join the text blocks of a message; images, audio and tool calls have none."""
    return message.content or ""


def is_later_turn(messages: Sequence[ChatMessage]) -> bool:
    """Tell whether a model has answered the user before the user's last words.

    A transcript of a conversation is one, though it stands in one message.
    """
    if _is_transcript(next((m for m in reversed(messages) if m.role == MessageRole.USER), None)):
        return True
    looked_for = iter(((MessageRole.USER,), _ASSISTANT, (MessageRole.USER,)))
    roles = next(looked_for)
    for message in reversed(messages):
        if message.role in roles:
            following = next(looked_for, None)
            if following is None:
                return True
            roles = following
    return False


def _is_transcript(message: ChatMessage | None) -> bool:
    """Look at how a message begins; a long one is not put together for it."""
    first = message.blocks[0] if message is not None and message.blocks else None
    return isinstance(first, TextBlock) and first.text.startswith(_TRANSCRIPT)


def messages_of(prompt: BasePromptTemplate) -> Sequence[ChatMessage]:
    """Return a prompt's own messages, unformatted: chat engines put the conversation there."""
    if isinstance(prompt, SelectorPromptTemplate):
        every = (prompt.default_template, *(each for _, each in prompt.conditionals or ()))
        return max(map(messages_of, every), key=len)
    return prompt.message_templates if isinstance(prompt, ChatPromptTemplate) else ()


def has_pictures(messages: Sequence[ChatMessage]) -> bool:
    """Tell whether there are pictures, sound or files among the messages."""
    return any(block.block_type in MEDIA for message in messages for block in message.blocks)


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: a user's question and what was done about it since."""

    said: tuple[str, ...] = field(repr=False)
    """What was said up to the question, system messages left out, long ones by their ends."""
    answers: int
    """How often a model has answered since the question."""
    is_open: bool
    """Whether tools have answered the last of these."""


def turn_of(asked: Asked) -> Turn | None:
    """Find the turn a conversation is in; `None` where nobody asked anything."""
    if asked.said_last is None:
        return None
    position, question = asked.said_last
    messages = asked.messages
    history = [at for at in range(position) if messages[at].role != MessageRole.SYSTEM]
    lines = [_line(messages[at], _said_by_user(asked.text_at(at))) for at in history]
    lines.append(_line(asked.messages[position], question))
    # A retry repeats the question.
    said = [line for i, line in enumerate(lines) if i == 0 or line != lines[i - 1]]
    tail = [m.role for m in asked.messages[position + 1 :] if m.role != MessageRole.SYSTEM]
    answers = sum(role in _ASSISTANT for role in tail)
    return Turn(tuple(said), answers, answers > 0 and tail[-1] not in _ASSISTANT)


def _line(message: ChatMessage, text: str) -> str:
    """Return a message to know it by: all of it, or the length and the ends of a long one."""
    if len(text) <= MAX_CHARACTERS:
        return f"{message.role.value}: {text}"
    return f"{message.role.value}, {len(text)} characters: {text_ends(text)}"
