"""Both lines of a router that looks at answers, against known truth: either may serve a call.

pytest tests/statistical/test_second_look.py -m statistical -s
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import pytest

from shared_router.deciding.paired_test import CriticalValues
from shared_router.router import promising
from tests.statistical.looking import LIMITS, SIZES, Cell, both_on_the_limit, simulate, telling
from tests.statistical.test_promise import check_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

stats = pytest.importorskip("scipy.stats")

MANY, FEW = 500, 40
"""Calibrations a cell, in the long and in the short form."""
KNOWN = (1.0, 0.5, 0.0)
"""How much of what the query leaves open an answer tells: all, half, nothing."""
CHANCE = 0.01
"""Of a false alarm, over all cells of a test."""
kept_critical_values = cache(CriticalValues)


@pytest.fixture(autouse=True)
def critical_values_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep them over all calibrations: they are of the error and the count alone."""
    monkeypatch.setattr(promising, "CriticalValues", kept_critical_values)


def show(cells: Iterable[Cell]) -> None:
    """Print one line a cell, as a table of the docs."""
    columns = "answers n limit confidence without with broken by-without by-with"
    print("| " + columns.replace(" ", " | ") + " |\n" + "|---" * 9 + "|")  # noqa: T201
    for own in cells:
        broken = (own.broken, own.broken_plain, own.broken_looked)
        rates = " | ".join(f"{each / own.calibrations:.3f}" for each in broken)
        print(  # noqa: T201
            f"| {own.of} | {own.n:,} | {own.limit:.0%} | {own.confidence} | {own.plain:.3f} "
            f"| {own.looked:.3f} | {rates} |"
        )


def check_each(cells: Iterable[Cell]) -> None:
    """No cell's lines, either of them, break the limit more often than it says."""
    cells = list(cells)
    for cell in cells:
        chance = stats.binom.sf(cell.broken - 1, cell.calibrations, 1 - cell.confidence)
        assert chance >= CHANCE / len(cells), cell


def cross(sizes: Iterable[int], calibrations: int) -> list[Cell]:
    found = [
        cell
        for known, n in product(KNOWN, sizes)
        for cell in simulate(telling(known), n, calibrations)
    ]
    show(found)
    return found


def cross_on_the_limit(sizes: Iterable[int], calibrations: int) -> list[Cell]:
    found = [
        cell
        for limit, n in product(LIMITS, sizes)
        for cell in simulate(both_on_the_limit(limit), n, calibrations, [limit])
    ]
    show(found)
    return found


def test_neither_line_breaks_its_limit_too_often() -> None:
    cells = cross([500], FEW)
    check_each(cells)
    kept = {(cell.of, cell.limit, cell.confidence): cell for cell in cells}
    told, nothing = (kept[f"told {known}", 0.02, 0.9] for known in (1, 0))
    assert told.looked > told.plain + 0.1
    assert nothing.looked < nothing.plain + 0.02


def test_where_both_lines_stand_on_the_limit_either_seldom_breaks_it() -> None:
    check_each(cross_on_the_limit([500], FEW))


@pytest.mark.statistical
def test_half_of_the_error_each_is_needed() -> None:
    """With the whole error each, both together are wrong more often than was promised."""
    cells = simulate(both_on_the_limit(0.05), 1000, 100, [0.05], apart=True)
    show(cells)
    whole = next(cell for cell in cells if cell.confidence == 0.8)
    assert stats.binom.sf(whole.broken - 1, whole.calibrations, 0.2) < CHANCE
    assert stats.binom.sf(whole.broken_plain - 1, whole.calibrations, 0.2) > CHANCE
    assert stats.binom.sf(whole.broken_looked - 1, whole.calibrations, 0.2) > CHANCE


@pytest.mark.statistical
def test_neither_line_breaks_its_limit_too_often_in_full() -> None:
    check_errors(cross(SIZES, MANY))


@pytest.mark.statistical
def test_both_lines_on_the_limit_in_full() -> None:
    check_errors(cross_on_the_limit(SIZES, MANY))
