"""How much of a text is read: a bounded part, however long a message is."""

from __future__ import annotations

MAX_CHARACTERS = 20_000
"""Characters read of a text; an encoder reads far fewer tokens anyway."""


def text_ends(text: str, tail: int = MAX_CHARACTERS // 2, between: str = "") -> str:
    """Keep `MAX_CHARACTERS` of a longer text, `tail` of them from its end: what is read of it.

    Args:
        text: The text; a shorter one stays as it is.
        tail: Characters of its end.
        between: Put where the middle is left out.
    """
    if len(text) <= MAX_CHARACTERS:
        return text
    return text[: MAX_CHARACTERS - tail] + between + text[len(text) - tail :]
