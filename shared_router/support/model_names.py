"""What a model is called: names told by SPECs and providers, and dated names of the same model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

LONGEST_NAME = 200
"""Characters of a name; what is longer is no name."""
OTHER, SAME_FAMILY, SAME_NAME = 0, 1, 2
"""How well a bound model fits a known one: not at all, but for its date, by name."""
_DATED = re.compile(r"[-@](20\d\d)-?([01]\d)-?([0-3]\d)$")
_LATEST = re.compile(r"[-:@]latest$")


def told_names(*names: object) -> tuple[str, ...]:
    """Keep what may be a model's name: no address, which may hold a password, and no text."""
    fit = (name for name in names if isinstance(name, str) and _may_be_name(name))
    return tuple(dict.fromkeys(fit))


def _may_be_name(name: str) -> bool:
    return (
        0 < len(name.strip()) <= len(name) <= LONGEST_NAME
        and name.isprintable()
        and "://" not in name
    )


def family(name: str) -> tuple[str, str | None]:
    """Split a name into the model's and the date of the snapshot, as `20250807`.

    `-latest` and `:latest` are no date: they name what the bare name does.
    """
    dated = _DATED.search(name)
    if dated is None:
        return _LATEST.sub("", name), None
    return name[: dated.start()], "".join(dated.groups())


def fit(bound: Collection[str], known: Collection[str]) -> int:
    """Tell how well the names of a bound model fit those of a known one.

    A bare name fits any snapshot of the model, and a snapshot fits the bare name unless other
    snapshots are known: those are other models.
    """
    if set(bound) & set(known):
        return SAME_NAME
    dates: dict[str, set[str | None]] = {}
    for name, date in map(family, known):
        dates.setdefault(name, set()).add(date)
    return SAME_FAMILY if any(_within(name, dates) for name in bound) else OTHER


def _within(name: str, dates: dict[str, set[str | None]]) -> bool:
    bare, date = family(name)
    known = dates.get(bare)
    return known is not None and (date is None or date in known or known == {None})


def places(bound: Sequence[Sequence[str]], known: Sequence[Collection[str]]) -> list[int | None]:
    """Find the position that the names of each bound model fit best; of equal ones its own.

    What it was called here says nothing where its provider's name is another position's alone.

    Args:
        bound: The names of each model, what it was called here first.
        known: The names of each position.

    Returns:
        One position per bound model; `None` where its names fit none.
    """
    found: list[int | None] = []
    for own, names in enumerate(bound):
        fits = [fit(names[1:], each) for each in known]
        if fits[own] or not any(fits):
            fits = [fit(names, each) for each in known]
        best = max(range(len(fits)), key=lambda at: (fits[at], at == own))
        found.append(best if fits[best] else None)
    return found


def joined(
    known: Mapping[str, Iterable[str]], told: Mapping[str, Iterable[str]]
) -> dict[str, tuple[str, ...]]:
    """Join what is known of some models' names and what is told of them, each name once."""
    found = {name: (*known.get(name, ()), *told.get(name, ())) for name in {**known, **told}}
    return {name: tuple(dict.fromkeys(names)) for name, names in found.items() if names}
