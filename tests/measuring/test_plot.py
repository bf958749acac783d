"""The picture of a report."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router import Dial
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.deciding.walk import Walk
from shared_router.errors import ConfigurationError, MissingExtraError
from shared_router.measuring import plot
from shared_router.measuring.picture import Picture, Point, picture_of
from shared_router.measuring.plot import draw
from shared_router.measuring.plot_words import title_of
from shared_router.measuring.verdict import FreshQueries, Verdict, verdict_of
from tests.measuring.test_verdict import FIVE, fresh, with_costs

if TYPE_CHECKING:
    from pathlib import Path

HELD = verdict_of(FIVE, 0.9, with_costs(fresh(640, 10, 2), 0.6e-3, 12e-3), "promised")


@pytest.fixture(scope="module")
def picture() -> Picture:
    rng = np.random.default_rng(0)
    quality = (rng.random((400, 2)) < (0.7, 0.85)).astype(float)
    scores = quality[:, :1] - quality[:, 1:] + rng.normal(size=(400, 1))
    walk = Walk(Rule("gap", savings_from_costs(None, 2)), scores, quality)
    points = (
        Point(name="promised", kind="promised", cost_advantage=0.27, drop=0.02, usd_per_1000=8.9),
        Point(name="estimated", kind="estimated", cost_advantage=0.5, drop=0.04, usd_per_1000=6.3),
        Point(name="a mix", kind="mix", cost_advantage=0.27, drop=0.05, usd_per_1000=8.9),
        Point(name="all to tiny_$1", kind="candidate", cost_advantage=1, drop=0.18),
        Point(name="all to large", kind="candidate", cost_advantage=0, drop=0, usd_per_1000=12),
    )
    return picture_of(walk, 50, relative=True, points=points)


def words(svg: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg.read_text("utf-8"))


def pixels(png: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(png)


def test_the_curve_begins_at_the_reference_and_lies_within_its_band(picture):
    assert (picture.shares[0], picture.drop[0], picture.shares[-1]) == (0.0, 0.0, 1.0)
    assert (picture.low <= picture.drop + 1e-9).mean() > 0.9
    assert (picture.high >= picture.drop - 1e-9).mean() > 0.9


def test_an_svg_says_everything_in_words(picture, tmp_path):
    draw(picture, HELD, tmp_path / "report.svg")
    said = words(tmp_path / "report.svg")
    assert title_of(HELD) in said
    for wanted in (
        "calls kept from large",
        "quality drop against large",
        "outside the limit of 5 %",
        "inside",
        "promised",
        "27 % kept, 2.0 % drop, $8.90",
        "all to tiny_$1",
        "random mix",
        "router",
    ):
        assert wanted in said


def test_the_same_report_gives_the_same_file(picture, tmp_path):
    for name in ("one.svg", "two.svg", "one.png", "two.png"):
        draw(picture, HELD, tmp_path / name)
    for suffix in ("svg", "png"):
        one, two = (tmp_path / f"{name}.{suffix}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("dark", [False, True])
def test_a_png_is_of_its_size_and_not_blank(picture, tmp_path, dark):
    draw(picture, HELD, tmp_path / "report.png", dark=dark)
    shown = pixels(tmp_path / "report.png")
    assert shown.shape[:2] == (800, 1200)
    assert shown[..., :3].std() > 0.05
    assert (shown[0, 0, :3].mean() < 0.3) == dark


def test_labels_lie_on_the_page_and_on_no_other(picture):
    figure = draw(picture, HELD)
    (axes,) = figure.axes
    from matplotlib.text import Text

    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    page = axes.get_window_extent().padded(2)
    labels = [box for box, text in zip(boxes, axes.texts, strict=True) if "\n" in text.get_text()]
    assert len(labels) == len(picture.points)
    for at, box in enumerate(labels):
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert not any(box.overlaps(other) for other in labels[:at])


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (10, "Keeps 50 % of calls from large within a 5 % drop: held at confidence 0.9"),
        (30, "Keeps 50 % of calls from large; a 5 % drop: not shown at confidence 0.9"),
        (80, "Keeps 50 % of calls from large; a 5 % drop: broken at confidence 0.9"),
    ],
)
def test_the_title_says_the_message(lost, said):
    assert title_of(verdict_of(FIVE, 0.9, fresh(640, lost, 2))) == said


@pytest.mark.parametrize(
    "verdict",
    [
        verdict_of(Dial("cost_advantage", 0.5), 0.9, fresh(640, 20)),
        verdict_of(Dial("max_quality_drop_absolute", 0.05), 0.9, fresh(640, 20)),
        verdict_of(FIVE, 0.9, fresh(0)),
        verdict_of(FIVE, 0.9, fresh(50, right=0)),
    ],
)
def test_whatever_the_verdict_there_is_a_picture(picture, verdict: Verdict, tmp_path):
    drawn = picture if verdict.relative else replace(picture, relative=False)
    draw(drawn, verdict, tmp_path / "report.svg")
    said = words(tmp_path / "report.svg")
    assert title_of(verdict) in said
    assert ("inside" in said) == verdict.limits_quality


def test_of_many_candidates_the_points_alone_are_shown(picture, tmp_path):
    many = [
        Point(name=f"all to m{i}", kind="candidate", cost_advantage=1, drop=i / 50)
        for i in range(11)
    ]
    draw(replace(picture, points=tuple(many)), HELD, tmp_path / "report.svg")
    assert not any(said.startswith("all to m") for said in words(tmp_path / "report.svg"))


@pytest.mark.parametrize("name", ["report", "report.jpg", "report.pdf"])
def test_another_suffix_is_refused(picture, tmp_path, name):
    with pytest.raises(ConfigurationError, match=r"ends in \.png or \.svg; got"):
        draw(picture, HELD, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_extra_is_named(picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"hybrid-llm\[plot\]"):
        draw(picture, HELD)


def test_pyplot_is_not_touched_and_matplotlib_is_imported_late():
    code = (
        "import sys, shared_router.measuring.evaluation, shared_router.measuring.plot as p\n"
        "assert 'matplotlib' not in sys.modules\n"
        "p.check_plotting()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw(Picture(**_flat()), HELD)
    assert dict(mpl.rcParams) == before


def _flat() -> dict[str, object]:
    line = np.zeros(3)
    return {
        "shares": np.array([0, 0.5, 1]),
        "drop": line,
        "low": line,
        "high": line,
        "relative": True,
    }


def test_long_names_and_titles_stay_on_the_page(picture):
    long = replace(HELD, reference="an-organisation/a-model-with-a-very-long-name-2026-11")
    figure = draw(picture, long)
    figure.draw_without_rendering()
    for text in figure.texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1
    assert plot.SIZE[0] * plot.DPI == 1200


def test_a_limit_that_is_not_promised_is_said_in_the_title(picture, tmp_path):
    always = FreshQueries(**vars(fresh(10, routed=0)) | {"always_reference": True})
    found = verdict_of(Dial("max_quality_drop", 0.002), 0.9, always, "none")
    draw(picture, found, tmp_path / "report.svg")
    said = words(tmp_path / "report.svg")
    assert "A 0.2 % drop is not promised: all calls go to large" in said
    assert "10 queries that nobody fitted or calibrated on" in said
    assert {"inside", "outside the limit of 0.2 %"} <= set(said)


def test_words_beside_a_limit_near_zero_lie_off_the_zero_line(picture):
    figure = draw(picture, replace(HELD, value=0.004))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    zero = axes.transData.transform((0.0, 0.0))[1]
    (inside,) = (text for text in axes.texts if text.get_text() == "inside")
    assert inside.get_window_extent().y1 < zero
