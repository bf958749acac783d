"""Runners by their names, those of `--runner`: threads of this process, or a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from shared_router.bulk.runner import LocalRunner
from shared_router.errors import ConfigurationError
from shared_router.support.extras import need

if TYPE_CHECKING:
    from shared_router.bulk.runner import Runner

RunnerName = Literal["local", "ray"]
RUNNER_NAMES: tuple[RunnerName, ...] = get_args(RunnerName)


def runner_named(name: str, workers: int | None = None, ray_address: str | None = None) -> Runner:
    """Make a runner by its name.

    Args:
        name: `local` or `ray`.
        workers: Threads of this process, or actors on the cluster; by default one per core.
        ray_address: A cluster to join, `HOST:PORT` or `auto`; by default one is started here.

    Raises:
        ConfigurationError: If there is none of that name, or an option is not for it.
    """
    if name == "ray":
        from shared_router.bulk.ray_runner import RayRunner

        return RayRunner(workers, ray_address)
    if name != "local":
        raise ConfigurationError(f"A runner is one of {', '.join(RUNNER_NAMES)}; got {name!r}.")
    if ray_address is not None:
        raise ConfigurationError("--ray-address is for --runner ray; got --runner local.")
    return LocalRunner(workers)


def check_runner(name: str) -> None:
    """Check, before the input is read, that what a runner needs is installed.

    Raises:
        MissingExtraError: If it is not.
    """
    if name == "ray":
        need("--runner ray", "ray", "ray", "pyarrow")
