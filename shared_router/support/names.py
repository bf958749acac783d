"""Names of models and routers: they stand in decisions, tags, terminals and files."""

from __future__ import annotations

import difflib
import reprlib
import unicodedata
from typing import TYPE_CHECKING

from shared_router.errors import CandidateError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST_NAME = 1_000
"""Characters of a candidate's name; paths and addresses name models too."""
LONGEST_ROUTER_NAME = 4 * LONGEST_NAME
"""Characters of a router's name, which may spell out three candidates."""
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's control characters, halves of surrogate pairs, and ends of lines and paragraphs."""
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that show what follows in another order than it is written in."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80
_short.maxlevel = 3


def shown(value: object) -> str:
    """Show a value in a message: escaped, and no longer than a line."""
    try:
        return _short.repr(value)
    except ValueError:  # an integer of too many digits
        return f"a {type(value).__name__}"


def without_password(address: str) -> str:
    """Cut the credentials out of an address or a SPEC, for messages."""
    scheme, mark, rest = address.partition("://")
    host, at, path = rest.rpartition("@")
    return f"{scheme}{mark}***{at}{path}" if mark and host else address


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Find the known name that was probably meant; `None` where none is near.

    Args:
        name: What was written.
        known: The names there are.
        cutoff: How alike they must be, from 0 to 1.
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def check_name(
    name: object,
    owner: str = "A candidate",
    error: type[ConfigurationError] = CandidateError,
    longest: int = LONGEST_NAME,
) -> str:
    """Check a name.

    Args:
        name: The name.
        owner: Whose it is, for the message.
        error: What is raised.
        longest: Most characters.

    Returns:
        The name.

    Raises:
        ConfigurationError: If it is blank, no text or too long, or holds what moves a terminal's
            cursor, breaks a line or cannot be written to a file.
    """
    if not isinstance(name, str) or not name.strip():
        raise error(f"{owner} needs a non-empty name; got {shown(name)}.")
    if len(name) > longest:
        raise error(
            f"{owner}'s name has at most {longest} characters; got {len(name)}: {shown(name)}."
        )
    if any(unicodedata.category(sign) in _CONTROLS or sign in _OVERRIDES for sign in name):
        raise error(
            f"{owner}'s name holds no control characters, line ends, text direction marks or "
            f"halves of surrogate pairs; got {shown(name)}."
        )
    return name


def check_candidate_names(names: Sequence[str]) -> None:
    """Check that a list of candidates has two or more different names.

    Raises:
        CandidateError: If it has not, or one is no name.
    """
    if isinstance(names, str) or len(names) < 2:
        raise CandidateError(
            "A router chooses between at least two candidates, the reference (the large model) "
            f"last; got {shown(names)}."
        )
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        raise CandidateError(f"Each candidate is named once; got {', '.join(names)}.")
