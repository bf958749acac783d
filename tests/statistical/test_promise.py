"""The promise against known truth: how often it is broken, what it gives, and the estimate.

pytest tests/statistical/test_promise.py -m statistical -s
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router.deciding.promise import cut_grid, take_look
from tests.statistical.populations import PAIRS, Population, measured, on_the_limit
from tests.statistical.simulating import (
    CONFIDENCES,
    LIMITS,
    SIZES,
    Cell,
    critical_values_of,
    dial,
    estimated,
    follow_default,
    looked_at_six_times,
    promise_of,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

stats = pytest.importorskip("scipy.stats")

GRID_OF_TWO = cut_grid(np.array([0.0, 1.0] * 100))
"""Of the scores of `on_the_limit`."""
MANY, FEW = 2000, 150
"""Calibrations a cell, in the long and in the short form."""
ON_THE_LIMIT = [(0.0, False), (0.02, False), (0.08, False), (0.05, True)]
"""Share of gains, and whether graded."""
MEASURED = ("mmlu", "mmlu_pro", "graded", "graded, bets")
SIX = range(200, 1201, 200)
"""Labels at each of six looks."""
FLOORS = {0.01: (0.60, 0.88), 0.02: (0.80, 0.90), 0.05: (0.88, 0.93)}
"""Least power of the exact test at a limit: with 500 labels, and with 1,276 and more."""
GRADED_FLOOR, WORTH_ASKING = 0.35, 0.05
"""Least power of bets, and least share of the central limit theorem's from which floors hold."""


def check_errors(cells: Iterable[Cell]) -> None:
    """No cell breaks its promise more often than it says, nor do all of a confidence together."""
    cells = list(cells)
    for cell in cells:
        chance = stats.binom.sf(cell.broken - 1, cell.calibrations, 1 - cell.confidence)
        assert chance >= 0.01 / len(cells), cell
    for confidence in CONFIDENCES:
        own = [cell for cell in cells if cell.confidence == confidence]
        broken, of = (
            sum(getattr(cell, name) for cell in own) for name in ("broken", "calibrations")
        )
        print(f"confidence {confidence}: {broken} of {of} broken, {broken / of:.4f}")  # noqa: T201
        assert stats.beta.ppf(0.99, broken + 1, of - broken) <= 1 - confidence + 0.015


def floor_of(cell: Cell) -> float:
    """Return the least power a cell must have; 0 where none is asked."""
    if cell.confidence < 0.9 or cell.clt < WORTH_ASKING:
        return 0.0
    if cell.of.startswith("graded"):
        return GRADED_FLOOR if cell.n == 1276 and cell.limit in (0.02, 0.05) else 0.0
    few, many = FLOORS.get(cell.limit, (0.0, 0.0))
    return many if cell.n >= 1276 else few if (cell.n, cell.confidence) == (500, 0.9) else 0.0


def show(cells: Iterable[Cell]) -> None:
    """Print one line a cell, as a table of the docs."""
    columns = (
        "data n limit confidence promised CLT power broken CLT-broken none old-drop old-broken"
    )
    print("| " + columns.replace(" ", " | ") + " |\n" + "|---" * 12 + "|")  # noqa: T201
    for own in cells:
        print(  # noqa: T201
            f"| {own.of} | {own.n:,} | {own.limit:.0%} | {own.confidence} | {own.promised:.3f} "
            f"| {own.clt:.3f} | {own.power:.2f} | {own.broken / own.calibrations:.3f} "
            f"| {own.clt_broken:.3f} | {own.refused:.2f} | {own.old_drop:.2%} "
            f"| {own.old_broken:.2f} |"
        )


def cross_on_the_limit(sizes: Iterable[int], calibrations: int) -> list[Cell]:
    """Put every limit to the hardest test: the next setting just breaks it."""
    return [
        cell
        for limit, (gains, graded), n in product(LIMITS, ON_THE_LIMIT, sizes)
        for cell in simulate(on_the_limit(limit, gains, graded=graded), n, calibrations, [limit])
    ]


def test_promises_on_the_limit_are_seldom_broken():
    check_errors(cross_on_the_limit([130, 500], FEW))


@pytest.mark.data
def test_promises_of_a_measured_pair_are_seldom_broken(data_folder: Path):
    own = measured(data_folder, "gsm8k")
    cells = [cell for n in (130, 500) for cell in simulate(own, n, FEW)]
    show(cells)
    check_errors(cells)
    assert all(cell.power >= floor_of(cell) for cell in cells if cell.limit >= 0.02)


@pytest.mark.statistical
@pytest.mark.parametrize(("twice", "often"), [(0.02, 0.0), (0.3, 0.0), (1.0, 0.0), (0.1, 0.01)])
def test_promises_are_kept_where_texts_repeat(twice: float, often: float):
    """Drawn are texts, each with all of its copies: two, or twelve."""
    limit, rng = 0.05, np.random.default_rng(5)
    population = on_the_limit(limit, 0.02, graded=False)
    broken, promised = 0, []
    for _ in range(400):
        texts = population.rows(rng, 600)
        luck = rng.random(600)
        copies = np.where(luck < often, 12, np.where(luck < often + twice, 2, 1))
        evidence = population.evidence(rng, np.repeat(texts, copies))
        evidence = replace(evidence, counts=float(copies.sum() / (copies**2).sum()))
        look = take_look(GRID_OF_TWO, evidence, relative=True, critical=critical_values_of(600, 1))
        at = promise_of(population, GRID_OF_TWO, [look]).step(dial(limit), 0.9)
        share, drop = population.measure(GRID_OF_TWO[[at]])
        broken += int(drop[0] > limit)
        promised.append(share[0])
    print(f"{twice:.0%} twice, {often:.0%} often: {broken / 400:.3f} broken")  # noqa: T201
    assert stats.binom.sf(broken - 1, 400, 0.1) >= 0.01
    assert np.mean(promised) > 0.3


def test_the_exact_test_uses_the_error_it_has():
    cells = [
        cell
        for limit in (0.05, 0.1)
        for cell in simulate(on_the_limit(limit, 0.02, graded=False), 1276, 400, [limit])
    ]
    for cell in cells:
        error = 1 - cell.confidence
        assert cell.broken >= stats.binom.ppf(0.001, cell.calibrations, 0.8 * error), cell


@pytest.mark.data
def test_the_estimate_is_about_right(data_folder: Path):
    found = estimated(measured(data_folder, "gsm8k"), 500, FEW)
    assert [found[limit][0] for limit in (0.02, 0.05)] == pytest.approx([0.02, 0.05], abs=0.005)


@pytest.mark.statistical
def test_on_the_limit_in_full():
    cells = cross_on_the_limit(SIZES, MANY)
    show(cells)
    check_errors(cells)


@pytest.fixture(scope="module")
def pairs(data_folder: Path) -> dict[str, Population]:
    found = {name: measured(data_folder, name) for name in PAIRS}
    return found | {"graded, bets": found["graded"].by_bets()}


@pytest.mark.data
@pytest.mark.statistical
def test_measured_pairs_in_full(pairs: dict[str, Population]):
    cells = [cell for name in MEASURED for n in SIZES for cell in simulate(pairs[name], n, MANY)]
    show(cells)
    check_errors(cells)
    weak = [(cell, floor_of(cell)) for cell in cells if cell.power < floor_of(cell)]
    assert not weak


@pytest.mark.data
@pytest.mark.statistical
def test_the_estimate_in_full(pairs: dict[str, Population]):
    for n, within in ((130, 0.005), (500, 0.0015), (1276, 0.0015)):
        found = estimated(pairs["mmlu"], n, MANY)
        said = [f"{limit:.0%}: drop {d:.2%}, share {s:.3f}" for limit, (d, s) in found.items()]
        print(n, *said, sep=" | ")  # noqa: T201
        assert [found[x][0] for x in (0.02, 0.05)] == pytest.approx([0.02, 0.05], abs=within)


@pytest.mark.data
@pytest.mark.statistical
@pytest.mark.parametrize("name", ["mmlu", "graded", "graded, bets"])
def test_six_looks_break_no_more_than_one(pairs: dict[str, Population], name: str):
    found = looked_at_six_times(pairs[name], MANY, SIX)
    for (limit, confidence), broken in found.items():
        print(f"{name} {limit:.0%} {confidence}: {broken:.3f}")  # noqa: T201
        count = round(broken * MANY)
        assert stats.binom.sf(count - 1, MANY, 1 - confidence) >= 0.01 / len(found)


@pytest.mark.data
@pytest.mark.statistical
def test_the_default_with_two_hundred_labels(pairs: dict[str, Population]):
    for own in pairs.values():
        found = follow_default(own, 200, 1000, 0.05, 0.9)
        print(  # noqa: T201
            f"| {own.name} | {found.promised:.2f} | {found.share:.3f} | {found.drop:.2%} "
            f"| {found.broken:.3f} |"
        )
        assert found.broken * found.promised <= 0.1
        assert np.isfinite(found.share)
