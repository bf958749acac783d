"""Labels stand beside their points and on no other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from shared_router.measuring.label_places import Box, Page, places

SIZE = (120.0, 30.0)


def page(marks: np.ndarray, lines: np.ndarray | None = None) -> Page:
    return Page(
        edge=Box(0, 0, 1000, 600),
        lines=np.empty((0, 2)) if lines is None else lines,
        marks=marks,
        levels=[],
        per_point=2.0,
    )


def boxes(at: np.ndarray, found: list[tuple[float, float]]) -> list[Box]:
    middles = at + 2.0 * np.array(found)
    return [Box(x - 60, y - 15, x + 60, y + 15) for x, y in middles]


@pytest.mark.parametrize("seed", range(8))
def test_labels_lie_on_the_page_on_no_mark_and_on_no_other_label(seed):
    at = np.random.default_rng(seed).uniform((0, 0), (1000, 600), (6, 2))
    found = boxes(at, places(at, [SIZE] * 6, page(at)))
    for box in found:
        assert box.shared(Box(0, 0, 1000, 600)) == pytest.approx(box.area)
        assert box.holds(at) == 0
    assert not any(one.shared(other) for one, other in combinations(found, 2))


def test_a_label_leaves_words_that_stand_there_alone():
    at, words = np.array([[500.0, 300.0]]), Box(400, 305, 600, 380)
    (box,) = boxes(at, places(at, [SIZE], page(at), [words]))
    assert box.shared(words) == 0


def test_a_label_rather_stands_off_a_line():
    at = np.array([[500.0, 300.0]])
    line = np.column_stack([np.linspace(0, 1000, 400), np.full(400, 330.0)])
    (box,) = boxes(at, places(at, [SIZE], page(at, line)))
    assert box.holds(line) == 0


def test_no_labels_need_no_places():
    assert places(np.empty((0, 2)), [], page(np.empty((0, 2)))) == []


def test_a_leader_rather_runs_over_no_other_mark():
    at = np.array([[500.0, 200.0], [500.0, 240.0]])
    found = boxes(at, places(at, [SIZE] * 2, page(at)))
    for point, other, box in zip(at, at[::-1], found, strict=True):
        end = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        along = point + np.linspace(0, 1, 50)[:, None] * (end - point)
        assert np.abs(along - other).max(axis=1).min() > 10
