"""The user's question inside a longer text: what both fronts know of prompts and agents.

In a RAG prompt the question is the last 13 characters of a message of 15,000, cut off at the
encoder's 256 tokens; in an agent the last user message may be harness noise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared_router.asking.texts import MAX_CHARACTERS, text_ends
from shared_router.records import RoutingQuery
from shared_router.support.user_warnings import warn

if TYPE_CHECKING:
    from collections.abc import Callable

    TooLong = Callable[[str], bool]

_NOISE = re.compile(
    r"\s*(?:Observation:|Result of executing the code given:|Error while parsing the output:"
    r"|FAILURE: Your previous response was empty|<tool_result|<tool_response|\[tool)",
    re.IGNORECASE,
)
_SUMMARY = re.compile(
    r"\s*(?:Here is a summary of the conversation|You are in the middle of a conversation that has"
    r"|This session is being continued from a previous conversation|<(?:conversation_)?summary>)",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^[^\S\n]*(?:#+\s*)?(?:user\s+)?(?:question|query|input|user)\s*:\s*",
    re.IGNORECASE | re.MULTILINE,
)
# Blanks but no line ends before a label, and nothing behind an optional sign: two runs that match
# the same blanks would be tried in every split of them, in quadratic time.
_CONTEXT = re.compile(r"^[^\S\n]*(?:context|documents?|sources?)\s*:", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(r"(?:\w+\s+)?answer\s*:?", re.IGNORECASE)


_BLOCK = re.compile(
    r"\s*<(memory|memories|system[-_]reminder|environment_(?:details|context))>", re.IGNORECASE
)
_BLOCK_END = re.compile(r"</(\w+(?:-\w+)?)>\Z")


class GuessedQueryWarning(UserWarning):
    """The query had to be guessed out of a long message."""


def is_tool_noise(text: str) -> bool:
    """Tell whether a user message is an agent's harness speaking, not the user."""
    return bool(_NOISE.match(text, 0, MAX_CHARACTERS))


def without_harness(text: str) -> str:
    """Cut away what an agent's harness puts around a user's words, as `<system-reminder>` blocks.

    Nothing is left of a message in which only the harness speaks.
    """
    start, end = 0, len(text)
    while found := _BLOCK.match(text, start, end):
        closing = f"</{found[1]}>"
        at = text.find(closing, found.end(), end)
        if at < 0:
            break
        start = at + len(closing)
    while (bare := text[max(start, end - 100) : end].rstrip()).endswith(">"):
        end = max(start, end - 100) + len(bare)
        tag = _BLOCK_END.search(bare)
        at = text.rfind(f"<{tag[1]}>", start, end) if tag else -1
        if at < 0 or not _BLOCK.match(text, at, end):
            break
        end = at
    return text if (start, end) == (0, len(text)) else text[start:end].strip()


def is_summary(text: str) -> bool:
    """Tell whether a user message holds a harness's summary of what was said before it."""
    return bool(_SUMMARY.match(text, 0, MAX_CHARACTERS))


def query_of_message(text: str, ways: str) -> RoutingQuery:
    """Make a query of a user message; it is narrowed when it is scored, if it is too long.

    Args:
        text: The message.
        ways: How to state the question instead, for the warning.
    """
    return RoutingQuery(text=text, source="last_user_message", ways=ways)


def narrowed(text: str, too_long: TooLong) -> str | None:
    """Narrow a message that is longer than the encoder reads to its final question paragraph.

    Args:
        text: The message; of a very long one its head and tail are looked at.
        too_long: Tells whether a text is longer than the encoder reads.

    Returns:
        The paragraph; `None` where the message is read whole.
    """
    return final_question(text_ends(text, between="\n\n")) if too_long(text) else None


def final_question(text: str) -> str:
    """Narrow a long message to its final question paragraph.

    The last paragraph if it asks: by a label such as `Question:`, or by a question mark. Else the
    last labelled one, else the last one with a question mark: retrieved text asks too, but
    seldom with a label. Label, empty `Answer:` and a `Context:` that follows are cut.
    """
    paragraphs = [p for p in map(_without_answer_line, re.split(r"\n\s*\n", text)) if p.strip()]
    if not paragraphs:
        return text
    labelled = [paragraph for paragraph in paragraphs if _LABEL.search(paragraph)]
    asking = [paragraph for paragraph in paragraphs if "?" in paragraph]
    last = paragraphs[-1:] if paragraphs[-1] in asking else []
    return _labelled_part((last or labelled or asking or paragraphs)[-1]) or text


def _labelled_part(paragraph: str) -> str:
    """Return what stands behind the last label of a paragraph, or all of it."""
    after = paragraph[[0, *(found.end() for found in _LABEL.finditer(paragraph))][-1] :]
    return _CONTEXT.split(after, maxsplit=1)[0].strip()


def _without_answer_line(paragraph: str) -> str:
    return "\n".join(line for line in paragraph.splitlines() if not _ANSWER.fullmatch(line.strip()))


_warned = False


def warn_of_guess(ways: str) -> None:
    """Warn once per process that a query had to be guessed.

    Args:
        ways: How to state the question instead.

    Warns:
        GuessedQueryWarning: The first time.
    """
    global _warned
    if _warned:
        return
    _warned = True
    warn(
        "The last user message is longer than the router's encoder reads; it is routed by its "
        f"final question paragraph (query_source='guessed'). State the question with {ways}.",
        GuessedQueryWarning,
    )
