"""The picture of a report: what is kept from the reference, what it costs, and the limit.

matplotlib is imported here alone, inside functions, and its state is left as it was: a figure of
its own, no pyplot.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.output import write_whole
from shared_router.errors import ConfigurationError
from shared_router.measuring.label_places import AIR, Box, Page, places
from shared_router.measuring.plot_words import short, subtitle_of, title_of, words_of
from shared_router.support.extras import need

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox
    from numpy.typing import NDArray

    from shared_router.measuring.picture import Kind, Picture, Point
    from shared_router.measuring.verdict import Verdict

SUFFIXES = (".png", ".svg")
SIZE, DPI = (8.0, 16 / 3), 150
"""Inches, and pixels in each: 1200 by 800."""
LINE_OF_WORDS = 18.0
"""Typographic points that words between two lines need."""
MOST_NAMED = 6
"""Candidates that are named in the picture; of more, their points alone are shown."""


@dataclass(frozen=True)
class Palette:
    """Colours of one picture."""

    paper: str
    ink: str
    faint: str
    router: str
    mix: str
    inside: str
    outside: str
    limit: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1a1a1a",
    faint="#6b6b6b",
    router="#0072b2",
    mix="#8c6d1f",
    inside="#e4f4ec",
    outside="#fbe9e4",
    limit="#b3401f",
)
DARK = Palette(
    paper="#15181c",
    ink="#eceff1",
    faint="#9aa3ab",
    router="#56b4e9",
    mix="#e0b84c",
    inside="#16302a",
    outside="#3a2320",
    limit="#ff8a65",
)
MARKERS: dict[Kind, str] = {
    "promised": "D",
    "estimated": "o",
    "asked": "o",
    "candidate": "s",
    "mix": "X",
}


def check_suffix(path: str | os.PathLike[str]) -> Path:
    """Check where a picture is to be written.

    Raises:
        ConfigurationError: If its name ends in something else than `.png` or `.svg`.
    """
    found = Path(path)
    if found.suffix.lower() not in SUFFIXES:
        raise ConfigurationError(
            f"A picture's name ends in {' or '.join(SUFFIXES)}; got {found.name!r}."
        )
    return found


def check_plotting() -> None:
    """Check that pictures can be drawn.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    need("A picture", "plot", "matplotlib")


def draw(
    picture: Picture,
    verdict: Verdict,
    path: str | os.PathLike[str] | None = None,
    *,
    dark: bool = False,
) -> Figure:
    """Draw a report.

    Args:
        picture: What is drawn.
        verdict: What it says.
        path: Where it is written, as PNG or SVG; nowhere where `None`.
        dark: Whether it is for a dark page.

    Returns:
        The figure, of matplotlib.

    Raises:
        ConfigurationError: If the name ends in something else than `.png` or `.svg`.
        MissingExtraError: If matplotlib is not installed.
    """
    target = None if path is None else check_suffix(path)
    check_plotting()
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    palette = DARK if dark else LIGHT
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "hybrid-llm", "font.size": 10}):
        figure = Figure(figsize=SIZE, dpi=DPI, facecolor=palette.paper)
        FigureCanvasAgg(figure)
        _Drawing(figure, picture, verdict, palette).draw()
        if target is not None:
            _write(figure, target)
    return figure


def _write(figure: Figure, target: Path) -> None:
    kind = target.suffix.lower().removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    write_whole(target, drawn.getvalue())


class _Drawing:
    """One picture on its way to paper."""

    def __init__(
        self, figure: Figure, picture: Picture, verdict: Verdict, palette: Palette
    ) -> None:
        self.figure, self.axes = figure, figure.add_axes((0.095, 0.11, 0.88, 0.73))
        self.picture, self.verdict, self.palette = picture, verdict, palette
        self._scale = 100.0 if picture.relative else 1.0

    def draw(self) -> None:
        """Draw everything, the labels last, where there is room."""
        self._frame()
        self._limit()
        self._lines()
        first = sorted(self.picture.points, key=lambda point: point.kind != "candidate")
        points = [self._point(point) for point in first]
        self._titles()
        self._place([label for label in points if label is not None])

    @property
    def limit(self) -> float | None:
        """The limit, in the units of the axis."""
        verdict = self.verdict
        alike = verdict.relative == self.picture.relative
        return verdict.value * self._scale if verdict.limits_quality and alike else None

    def _frame(self) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axes, palette = self.axes, self.palette
        axes.set_facecolor(palette.paper)
        axes.set_xlim(0, 103)
        axes.set_ylim(*self._range())
        percents = FuncFormatter(lambda value, _: f"{value:g} %")
        axes.xaxis.set_major_formatter(percents)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
        if self.picture.relative:
            axes.yaxis.set_major_formatter(percents)
        unit = "" if self.picture.relative else ", in the metric's units"
        reference = short(self.verdict.reference)
        self._say(axes.set_xlabel, f"calls kept from {reference}")
        self._say(axes.set_ylabel, f"quality drop against {reference}{unit}")
        axes.tick_params(colors=palette.faint, labelcolor=palette.ink)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(palette.faint)
        axes.axhline(0, color=palette.faint, linewidth=0.8, zorder=1.5)

    def _range(self) -> tuple[float, float]:
        """Show all drops and the limit, with room for labels."""
        picture = self.picture
        drops = [*picture.drop, *picture.low, *picture.high, *(p.drop for p in picture.points)]
        low, high = self._scale * min(drops), self._scale * max(drops)
        if self.limit is not None:
            high = max(high, 1.25 * self.limit)
        high = max(high, low + 1e-3 * self._scale)
        return min(0.0, low) - 0.14 * (high - low), high + 0.1 * (high - low)

    def _limit(self) -> None:
        """Shade what is within the limit and what is not, and say so."""
        if self.limit is None:
            return
        axes, palette = self.axes, self.palette
        low, high = axes.get_ylim()
        axes.axhspan(low, self.limit, color=palette.inside, linewidth=0, zorder=0)
        axes.axhspan(self.limit, high, color=palette.outside, linewidth=0, zorder=0)
        axes.axhline(self.limit, color=palette.limit, linewidth=1.4, zorder=2)
        shown = f"{self.verdict.value:.4g}"
        if self.picture.relative:
            shown = f"{100 * self.verdict.value:.4g} %"
        for words, way in ((f"outside the limit of {shown}", 1), ("inside", -1)):
            self._beside_limit(words, way)

    def _beside_limit(self, words: str, way: int) -> None:
        """Write above or below the limit, at the end where the lines are further away."""
        level = self.limit or 0.0
        zero, there = self._pixels([(0.0, 0.0), (0.0, level)])[:, 1]
        if way < 0 and there - zero < LINE_OF_WORDS * DPI / 72:
            level = 0.0  # no room between the limit and no drop
        text = self.axes.annotate(
            words,
            (0, level),
            xytext=(6, 4 * way),
            textcoords="offset points",
            va="bottom" if way > 0 else "top",
            color=self.palette.limit,
            fontsize=9,
            parse_math=False,
            zorder=6,
        )
        left, lines = text.get_window_extent(), self._drawn()
        right = left.translated(self.axes.get_window_extent().x1 - left.x1 - 6 * DPI / 72, 0.0)
        if _box(right).padded(AIR).holds(lines) < _box(left).padded(AIR).holds(lines):
            text.xy = (self.axes.get_xlim()[1], level)
            text.set_position((-6, 4 * way))
            text.set_horizontalalignment("right")

    def _lines(self) -> None:
        picture, palette, axes = self.picture, self.palette, self.axes
        shares, scale = 100 * picture.shares, self._scale
        band = (scale * picture.low, scale * picture.high)
        axes.fill_between(shares, *band, color=palette.router, alpha=0.2, linewidth=0, zorder=2.5)
        axes.plot(shares, scale * picture.drop, color=palette.router, linewidth=2.2, zorder=3)
        ends = (0.0, scale * float(picture.drop[-1]))
        axes.plot((0, 100), ends, color=palette.mix, linewidth=1.2, linestyle="--", zorder=2.8)
        self._legend()
        if any(point.usd_per_1000 is not None for point in picture.points):
            self._note("$: per 1,000 calls")

    def _note(self, words: str) -> None:
        self.axes.annotate(
            words,
            (1, 1),
            xycoords="axes fraction",
            xytext=(0, 6),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9,
            color=self.palette.faint,
            parse_math=False,
        )

    def _legend(self) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        palette = self.palette
        shown = self.axes.legend(
            handles=[
                Line2D([], [], color=palette.router, linewidth=2.2, label="router"),
                Patch(color=palette.router, alpha=0.2, linewidth=0, label="95 % of resamples"),
                Line2D([], [], color=palette.mix, linestyle="--", label="random mix"),
            ],
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=3,
            frameon=False,
            fontsize=9,
            borderaxespad=0.2,
            handlelength=1.6,
            labelcolor=palette.ink,
        )
        shown.set_zorder(6)

    def _point(self, point: Point) -> Annotation | None:
        """Mark a point, and make its label, which is placed later."""
        palette = self.palette
        colour = {"candidate": palette.ink, "mix": palette.mix}.get(point.kind, palette.router)
        at = (100 * point.cost_advantage, self._scale * point.drop)
        hollow = point.kind == "estimated"
        self.axes.plot(
            *at,
            MARKERS[point.kind],
            color=palette.paper if hollow else colour,
            markeredgecolor=colour if hollow else palette.paper,
            markeredgewidth=1.8 if hollow else 0.8,
            markersize=8,
            zorder=5,
            clip_on=False,
        )
        candidates = [p for p in self.picture.points if p.kind == "candidate"]
        if point.kind == "candidate" and len(candidates) > MOST_NAMED:
            return None
        return self.axes.annotate(
            words_of(point, relative=self.picture.relative),
            at,
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            color=colour,
            fontsize=8.5,
            linespacing=1.25,
            parse_math=False,
            bbox={"facecolor": palette.paper, "alpha": 0.55, "linewidth": 0, "pad": 1.5},
            arrowprops={"arrowstyle": "-", "color": palette.faint, "linewidth": 0.7, "shrinkB": 5},
            zorder=6,
        )

    def _titles(self) -> None:
        width = SIZE[0] * 72 * 0.93
        title = self.figure.text(0.02, 0.975, title_of(self.verdict), **self._style(13.5, "bold"))
        below = self.figure.text(0.02, 0.918, subtitle_of(self.verdict), **self._style(9.5))
        for text in (title, below):
            wide = text.get_window_extent().width / DPI * 72
            if wide > width:
                text.set_fontsize(float(text.get_fontsize()) * width / wide)

    def _style(self, size: float, weight: str = "normal") -> dict[str, Any]:
        return {
            "color": self.palette.ink if weight == "bold" else self.palette.faint,
            "fontsize": size,
            "fontweight": weight,
            "va": "top",
            "parse_math": False,
        }

    def _say(self, setter: Any, words: str) -> None:
        setter(words, color=self.palette.ink, parse_math=False)

    def _place(self, labels: list[Annotation]) -> None:
        """Put each label beside its point, where it lies on no other."""
        from matplotlib.text import Text

        self.figure.draw_without_rendering()
        others = [text for text in self.axes.texts if text not in labels]
        taken = [_box(Text.get_window_extent(text)) for text in others]
        sizes = [Text.get_window_extent(label).size for label in labels]
        at = self._pixels([label.xy for label in labels])
        levels = [0.0] if self.limit is None else [0.0, self.limit]
        page = Page(
            edge=_box(self.axes.get_window_extent()),
            lines=self._drawn(),
            marks=at,
            levels=[float(self._pixels([(0.0, level)])[0, 1]) for level in levels],
            per_point=DPI / 72,
        )
        for label, offset in zip(labels, places(at, sizes, page, taken), strict=True):
            label.set_position(offset)

    def _drawn(self) -> NDArray[np.float64]:
        """Points in pixels along the router's line and the mix."""
        shares, drop = self.picture.shares, self.picture.drop
        lines = [
            np.column_stack([100 * shares, self._scale * y]) for y in (drop, drop[-1] * shares)
        ]
        return self._pixels(np.vstack(lines))

    def _pixels(self, at: Any) -> NDArray[np.float64]:
        return np.asarray(self.axes.transData.transform(np.reshape(at, (-1, 2))))


def _box(found: Bbox) -> Box:
    return Box(found.x0, found.y0, found.x1, found.y1)
