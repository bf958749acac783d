"""Every error this library raises on purpose, in one tree.

HybridRoutingError
├── ConfigurationError        a wrong argument, option or binding
│   ├── DialError             a dial out of range, two dials, or a dial the router cannot resolve
│   └── CandidateError        unknown, too few or wrongly bound candidates
├── DataError                 a data file or data set breaks a rule
│   └── LabelError            labels from which nothing can be learned
├── NotCalibratedError        a quality or cost dial on a router without a calibration
├── ArtifactError             a router folder is corrupt, foreign or of a newer format
├── JudgeError                a judging model answered nonsense (recorded by collect)
├── MissingExtraError         an optional dependency is not installed
├── AllCandidatesFailedError  every candidate that was asked failed; a group of their errors
├── CallTimeoutError          a call took longer than `call_timeout_s`
├── EmptyStreamError          a stream ended and said nothing, not even why it ended
└── ScoringError              the scorer failed at call time (recorded, never raised to a chain)
    ├── ScoringTimeoutError   ... because it took too long
    ├── LeavingError          ... because the process is ending
    └── PanicError            ... because native code panicked

A message states the rule, the value seen and the way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = "hybrid-llm["


class HybridRoutingError(Exception):
    """Base of every error this library raises on purpose."""


class ConfigurationError(HybridRoutingError, ValueError):
    """An argument, option or binding is wrong."""


class DialError(ConfigurationError):
    """A dial is out of range, given twice, or cannot be resolved by this router."""


class CandidateError(ConfigurationError):
    """A candidate is unknown, or candidates are too few or wrongly bound."""


class DataError(HybridRoutingError, ValueError):
    """A data file or data set breaks a rule of the format."""


class LabelError(DataError):
    """Labels are degenerate: nothing can be learned from them."""


class NotCalibratedError(ConfigurationError):
    """A dial needs a calibration that the router does not have."""


class ArtifactError(HybridRoutingError):
    """A router folder is corrupt, truncated, foreign or of a newer format."""


class JudgeError(HybridRoutingError):
    """A judging model answered nonsense each time it was asked.

    `cost_usd` holds what its answers cost nevertheless; `None` where unknown.
    """

    def __init__(self, message: str, cost_usd: float | None = None) -> None:
        super().__init__(message)
        self.cost_usd = cost_usd


class MissingExtraError(HybridRoutingError, ImportError):
    """An optional dependency is not installed.

    Args:
        need: What is missing, and for what; the whole message where no packages are given.
        packages: What brings it, as pip takes it; `--no-deps` may stand before a name.
    """

    def __init__(self, need: str, packages: Sequence[str] = ()) -> None:
        self.need, self.packages = need, tuple(packages)
        super().__init__(f"{need}: {_installing(packages)}." if packages else need)


def _installing(packages: Sequence[str]) -> str:
    """Write the one command that installs packages: our extras in one, what brings none apart."""
    wanted = dict.fromkeys(packages)
    extras = [name[len(OURS) : -1] for name in wanted if name.startswith(OURS)]
    own = [f"'{OURS}{','.join(extras)}]'"] if extras else []
    others = [name for name in wanted if not name.startswith((OURS, "-"))]
    commands = [" ".join(own + others), *(name for name in wanted if name.startswith("-"))]
    return " && ".join(f"pip install {command}" for command in commands if command)


class AllCandidatesFailedError(HybridRoutingError, ExceptionGroup[Exception]):
    """Every candidate that was asked failed.

    It is a group of their errors, in the order they were asked; a note on each names its candidate.
    """

    def derive(self, excs: Sequence[Exception]) -> AllCandidatesFailedError:  # type: ignore[override]
        """Make a group of some of the errors, as `split` and `subgroup` do."""
        return AllCandidatesFailedError(self.message, excs)


class CallTimeoutError(HybridRoutingError, TimeoutError):
    """A call took longer than `call_timeout_s`, all its attempts together."""


class EmptyStreamError(HybridRoutingError, ValueError):
    """A stream ended and said nothing, not even why it ended.

    The hosts' clients raise at a whole answer without choices, but pass over a stream of none.
    """


class ScoringError(HybridRoutingError):
    """The scorer failed at call time."""


class ScoringTimeoutError(ScoringError):
    """The scorer did not answer within its time limit."""


class LeavingError(ScoringError):
    """The process is ending, and native code may not begin in a thread it does not wait for."""


class PanicError(ScoringError):
    """Native code panicked, such as a tokenizer over a text it cannot match in bounded time.

    The panic itself is not kept: its message may quote the query.
    """
