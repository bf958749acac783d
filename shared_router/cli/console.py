"""What the command line says, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import json
import math
import sys
import time
import warnings
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import typer
import typer.core

from shared_router.errors import DataError, HybridRoutingError
from shared_router.options import USUAL_CONFIDENCE, Asked, dial_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from shared_router.collecting.collect import CollectProgress
    from shared_router.data.dataset import RoutingDataset
    from shared_router.options import Confidence
    from shared_router.router.router import Router
    from shared_router.support.progress import Progress as ToldProgress

FAILED, INTERRUPTED = 1, 130
"""Exit codes; usage errors are typer's 2."""
PIPED_WIDTH = 110
"""Columns of a table that goes to a file or a pipe."""
LINE_EVERY_S = 30.0
"""Seconds between lines of progress that go to a file or a pipe."""
EVERY_SPLIT = "all"
"""What `--split` names all splits by."""
TEST_SPLIT = "test"
"""A split that is measured on, and never learned from unasked."""
STAGES = {
    "embed": "embedding queries",
    "score": "scoring queries",
    "tune": "fine-tuning (steps)",
}


class Commands(typer.core.TyperGroup):
    """Runs a command; an error becomes one line and an exit code, a warning becomes one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` wherever it stands: it is thought of last, after an error."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(arg for arg in args[:end] if arg != "--debug"), *args[end:]]
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: With code 1 on an error, 130 on Ctrl-C.
        """
        try:
            with warnings_as_lines():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if ctx.params.get("debug") or _belongs_to_typer(error):
                raise
            _fail(error)


def _belongs_to_typer(error: Exception) -> bool:
    """Tell whether typer handles it: its exceptions carry an exit code; a closed pipe is quiet."""
    return hasattr(error, "exit_code") or getattr(error, "errno", None) == errno.EPIPE


def _fail(error: Exception) -> NoReturn:
    if isinstance(error, HybridRoutingError):
        say(f"error: {error}")
    else:
        say(f"error: unexpected {type(error).__name__}: {error} (--debug shows where)")
    raise typer.Exit(FAILED) from None


def say(message: str) -> None:
    """Print one line on stderr."""
    typer.echo(" ".join(message.split()), err=True)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print each `UserWarning` as one line on stderr, without file and source line."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield


def read_data(
    paths: Sequence[Path],
    split: str | None,
    task: str | None,
    *,
    usual: str,
    learns: bool = False,
) -> RoutingDataset:
    """Load data files and narrow them to a split and a task.

    Args:
        paths: Data files.
        split: The split asked for, `usual` where `None`; `all` is every one, unless one is called
            so.
        task: The task or suite, all where `None`.
        usual: The split this command reads when none is asked for.
        learns: Whether the command learns from them: then a split called `test` is read only where
            it is asked for.

    Returns:
        The queries of that split; where it is absent, of the sole one present, which is said.

    Raises:
        DataError: If a file is bad, or the split or the task is absent.
    """
    from shared_router.data.dataset import RoutingDataset

    data = RoutingDataset.load(*paths)
    wanted = split or usual
    if wanted == EVERY_SPLIT and wanted not in data.splits:
        return data.task(task) if task else data
    if wanted not in data.splits and len(data.splits) == 1:
        (sole,) = data.splits
        if learns and sole == TEST_SPLIT:
            raise DataError(
                f"{data.name}: no split {wanted!r}, and {TEST_SPLIT!r} alone is kept for evaluate; "
                f"give other data, or --split {TEST_SPLIT} if these are to be learned from."
            )
        say(f"{data.name}: no split {wanted!r}; using the sole one present, {sole!r}.")
        wanted = sole
    chosen = data.split(wanted)
    return chosen.task(task) if task else chosen


def read_router(folder: str, **dials: float) -> Router:
    """Read a router, after checking the dials: a wrong one needs no router to be told."""
    from shared_router.router.router import Router

    dial_from(dials)
    return Router.from_pretrained(folder)


def say_dial(
    router: Router, dials: Mapping[str, float], confidence: Confidence = USUAL_CONFIDENCE
) -> None:
    """Say which dial is in force, where none was given, and what one gives that is not promised."""
    from shared_router.engine.promised import said_of_limit

    dial = dial_from(dials)
    if dial is None:
        say(f"No dial given: using the router's own, {router.dial.name}={router.dial.value:g}.")
    elif router.setting_of(dial, confidence).refused:
        say(f"warning: {said_of_limit(router, Asked(dial, confidence=confidence))}")


@contextmanager
def working(doing: str) -> Iterator[ToldProgress | None]:
    """Show progress on stderr while the block runs, where stderr is a terminal.

    Args:
        doing: What is done, for the line without a total.

    Yields:
        What to pass as `progress=`; `None` where nobody would see it.
    """
    if not sys.stderr.isatty():
        yield None
        return
    with _bars() as bars:
        bars.add_task(doing, total=None, count="")
        yield _Stages(bars)


@contextmanager
def collecting(
    doing: str = "asking", what: str = "calls"
) -> Iterator[Callable[[CollectProgress], None]]:
    """Show how far a collect, or other work on many records, is, on stderr.

    Args:
        doing: What is done.
        what: What an earlier start may have left, which is said once.

    Yields:
        What to pass as `progress=`: a bar on a terminal, else a line now and then.
    """
    if not sys.stderr.isatty():
        yield _Resumed(what, _Lines())
        return
    with _bars() as bars:
        task = bars.add_task(doing, total=None, count="")

        def show(now: CollectProgress) -> None:
            bars.update(task, completed=now.done, total=now.total, count=progress_line(now))

        yield _Resumed(what, show)


class _Resumed:
    """Says once that an earlier start is gone on with, before it shows how far that is."""

    def __init__(self, what: str, show: Callable[[CollectProgress], None]) -> None:
        self._what, self._show, self._said = what, show, False

    def __call__(self, now: CollectProgress) -> None:
        if now.earlier and not self._said:
            self._said = True
            say(f"Going on: {now.earlier} {self._what} of an earlier start are taken up.")
        self._show(now)


def progress_line(now: CollectProgress) -> str:
    """Say calls, rate, time left and dollars in one line."""
    parts = [f"{now.done}/{now.total}", f"{now.calls_per_second:.1f}/s"]
    if now.eta_s is not None:
        parts.append(f"{timedelta(seconds=round(now.eta_s))} left")
    if now.spent_usd:
        parts.append(f"${now.spent_usd:.4f}")
    if now.failed:
        parts.append(f"{now.failed} failed")
    return ", ".join(parts)


class _Lines:
    """Progress where no bar can be drawn: a line every `LINE_EVERY_S`."""

    def __init__(self) -> None:
        self._last_s = time.monotonic()

    def __call__(self, now: CollectProgress) -> None:
        if time.monotonic() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.monotonic()
            say(progress_line(now))


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Stages:
    """One bar per stage, made when the stage is first told of."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            name = STAGES.get(stage, stage)
            self._tasks[stage] = self._bars.add_task(name, total=total, count="")
        self._bars.update(self._tasks[stage], completed=done, count=f"{done}/{total}")


def stdout_console() -> Console:
    """Return the console for tables; names in them are never read as markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(markup=False, highlight=False, width=width)


def print_json(value: Any) -> None:
    """Print strict JSON on stdout."""
    typer.echo(json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False))


def strict(value: Any) -> Any:
    """Replace what JSON has no word for.

    Returns:
        The value with infinite numbers as `"Infinity"` and `"-Infinity"`, and NaN as `None`.
    """
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
    return value
