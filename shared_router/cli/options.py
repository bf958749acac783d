"""Arguments and options that several commands share."""

# No `from __future__ import annotations` here: typer reads the annotations at run time.
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from shared_router.cli.console import say

T = TypeVar("T")

DIALS = "Dial (one at most)"

Folder = Annotated[
    str, typer.Argument(metavar="DIR", help="A router's folder or hub name, or `bundled`.")
]
Data = Annotated[list[Path], typer.Argument(metavar="DATA", help="JSON lines, plain or gzip.")]
Split = Annotated[
    str | None, typer.Option(help="The split to read, or `all` of them.", show_default=False)
]
Task = Annotated[str | None, typer.Option(help="The task, or the suite before its slash.")]
Cost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=USD", help="Mean cost of a call; repeat for each candidate."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace what stands there; never what is read.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
LookShare = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        help="Most of the queries whose small model's answer is looked at, where DATA have "
        "responses; 0 for none.",
    ),
]
SecondLookServes = Annotated[
    bool | None,
    typer.Option(
        "--second-look/--no-second-look",
        help="Which line serves; where neither is said both are tested, each at half the error.",
        show_default=False,
    ),
]
Threshold = Annotated[
    float | None, typer.Option(help="A score; higher keeps more calls.", rich_help_panel=DIALS)
]
Drop = Annotated[
    float | None,
    typer.Option(help="Relative quality drop allowed: 0.02 is 2 %.", rich_help_panel=DIALS),
]
DropAbsolute = Annotated[
    float | None,
    typer.Option(help="Quality drop allowed, in the metric's units.", rich_help_panel=DIALS),
]
Advantage = Annotated[
    float | None,
    typer.Option(help="Share of calls to keep from the reference.", rich_help_panel=DIALS),
]

SPREAD = "Where the work is done"
RunnerName = Literal["local", "ray"]
Runner = Annotated[
    RunnerName,
    typer.Option(help="Threads of this process, or a Ray cluster.", rich_help_panel=SPREAD),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Threads, or actors on the cluster.", rich_help_panel=SPREAD),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="A cluster to join, or `auto`; by default one is started here.",
        rich_help_panel=SPREAD,
        show_default=False,
    ),
]


def _renamed(old: str, new: str) -> Callable[[T], T]:
    """Make the callback of an option's older name, which says the newer one."""

    def tell(value: T) -> T:
        if value is not None:
            say(f"warning: {old} is deprecated: use {new}.")
        return value

    return tell


OldRunner = Annotated[
    RunnerName | None,
    typer.Option("--engine", hidden=True, callback=_renamed("--engine", "--runner")),
]
OldTrainMemory = Annotated[
    bool | None,
    typer.Option(
        "--reference/--no-reference",
        hidden=True,
        callback=_renamed("--[no-]reference", "--[no-]train-memory"),
    ),
]


ConfidenceGiven = Annotated[
    str | None,
    typer.Option(
        "--confidence",
        metavar="C",
        help="How sure a quality limit must be: 0.9 by default, or `estimate` for no promise.",
        rich_help_panel=DIALS,
    ),
]
Bounds = Annotated[
    str | None,
    typer.Option(
        "--quality-bounds",
        metavar="LOW,HIGH",
        help="Least and greatest quality there can be, where it is not from 0 to 1.",
    ),
]


def confidence_given(text: str | None) -> dict[str, Any]:
    """Read a confidence; nothing where none was given.

    Raises:
        DialError: If it is neither a number above 0.5 and below 1 nor `estimate`.
    """
    from shared_router.options import confidence_from

    if text is None:
        return {}
    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    return {"confidence": confidence_from(value)}


def checks_given(text: str | None) -> list[Any]:
    """Read checks on answers: names, and `module:function`.

    Raises:
        ConfigurationError: If one is unknown, reads more than a text, or cannot be imported.
    """
    from shared_router.measuring.escalation import checks_of_texts

    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    found = [_function(name) if ":" in name else name for name in names]
    checks_of_texts(found)
    return found


def _function(spec: str) -> Any:
    """Import a function by `module:attribute`; it may stand in the working folder."""
    from shared_router.errors import ConfigurationError

    module, _, attribute = spec.partition(":")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"--escalate {spec!r} cannot be imported: {error}.") from error
    finally:
        sys.path.remove("")


def bounds_given(text: str | None) -> tuple[float, float] | None:
    """Read the bounds of a quality.

    Raises:
        ConfigurationError: If they are not two numbers.
    """
    from shared_router.errors import ConfigurationError

    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ConfigurationError(
            f"--quality-bounds are two numbers, such as 0,100; got {text!r}."
        ) from None
    return low, high


def given_dials(**dials: float | None) -> dict[str, Any]:
    """Keep the dials that were given."""
    return {name: value for name, value in dials.items() if value is not None}
