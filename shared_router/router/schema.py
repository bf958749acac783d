"""The schema of a router's settings: what `router.json` may hold, older and newer files included.

A field that this version does not know is passed over. Strict: text is no number, and neither are
true and false.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from shared_router.data.labels import LabelKind  # noqa: TC001  (pydantic reads it)
from shared_router.deciding.by_task import ByTask  # noqa: TC001  (pydantic reads it)
from shared_router.deciding.checks import check_costs
from shared_router.deciding.evidence import Method  # noqa: TC001  (pydantic reads it)
from shared_router.errors import ArtifactError, ConfigurationError
from shared_router.options import Dial, DialName
from shared_router.records import AnswerSettings  # noqa: TC001  (pydantic reads it)
from shared_router.support.names import (
    LONGEST_ROUTER_NAME,
    check_candidate_names,
    check_name,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FEWEST_TOKENS, MOST_TOKENS = 3, 1_000_000
"""Tokens a router may read of a text: marks before and after, and one of the text between."""
WAY_OUT = "The folder was changed or is damaged: copy it again, or fit the router anew."


def _router_name(name: str) -> str:
    return check_name(name, "A router", ConfigurationError, LONGEST_ROUTER_NAME)


def _candidates(names: list[str]) -> list[str]:
    check_candidate_names(names)
    return names


def _distinct(found: list[str]) -> list[str]:
    if len(set(found)) < len(found):
        raise ValueError("each stands once")
    return found


Name = Annotated[str, AfterValidator(check_name)]
Labels = Annotated[list[str], AfterValidator(_distinct)]
"""Labels of tasks; that of a suite may be empty, as in `/task`."""
Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class StoredDial(_Part):
    """The default dial."""

    name: DialName
    value: float

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        self.dial  # noqa: B018  (refuses a value out of range)
        return self

    @property
    def dial(self) -> Dial:
        """The dial itself."""
        return Dial(self.name, self.value)


class StoredCurve(_Part):
    """What stands of a curve beside its arrays."""

    n: Count
    quality_range: tuple[FiniteFloat, FiniteFloat]


class StoredTaskCurve(StoredCurve):
    """The same of a task's curve."""

    label: str


class StoredTasks(_Part):
    """The calibration by task."""

    by: ByTask
    least: Count
    too_few: dict[str, Count]
    curves: list[StoredTaskCurve]

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        _distinct([*self.too_few, *(curve.label for curve in self.curves)])
        if self.by == "off":
            raise ValueError("by is given or predicted where tasks are told apart; got 'off'")
        return self


class StoredCalibration(StoredCurve):
    """The calibration."""

    graph_sha256: Sha256
    tokens_sha256: Sha256 | None = None  # older calibrations do not say how texts were read
    by_task: StoredTasks | None = None  # older calibrations tell no tasks apart
    promises: StoredPromises | None = None  # older calibrations tested none
    probes_spread: FiniteFloat | None = None  # older calibrations kept no probes


class StoredPromise(_Part):
    """What stands of a promise beside its arrays."""

    of: Literal["whole", "task", "rest"]
    label: str | None = None
    method: Method
    looks: Annotated[list[Count], Field(min_length=1)]


class StoredPromises(_Part):
    """What a calibration can promise."""

    parts: list[StoredPromise]
    look: Count = 1
    labels: str | None = None
    with_retrieval: bool | None = None
    by_conversation: bool = False

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        names = [(part.of, part.label) for part in self.parts]
        if names.count(("whole", None)) != 1 or len(set(names)) < len(names):
            raise ValueError("parts hold one of the whole, and each other one once")
        if any((part.of == "task") != (part.label is not None) for part in self.parts):
            raise ValueError("parts of a task, and no others, have a label")
        return self


class StoredTaskNames(_Part):
    """Labels that the graph takes, and those it tells."""

    labels: Labels = []
    told: Labels = []


class StoredLooksLine(StoredCurve):
    """The calibration of the line with looks."""

    graph_sha256: Sha256
    by_task: StoredTasks | None = None
    promises: StoredPromises | None = None
    probes_spread: FiniteFloat | None = None


class StoredSecondLook(_Part):
    """Second looks at answers."""

    width: Annotated[FiniteFloat, Field(ge=0)]
    after: Annotated[FiniteFloat, Field(ge=1)] = 1.0
    pays: bool = False
    needs_logprobs: bool = False
    numbers: list[str]
    settings: AnswerSettings | None = None
    line: StoredLooksLine | None = None


class _Training(_Part):
    """Of the facts of the training, what is read again."""

    tasks: dict[str, int] = {}
    added: list[dict[str, Any]] = []


class _Facts(_Part):
    """Of the facts for the card, what is read again."""

    training: _Training = _Training()
    calibration: dict[str, Any] = {}
    notes: dict[str, str] = {}
    taken_from: list[str] = []


def _readable(facts: dict[str, Any]) -> dict[str, Any]:
    _Facts.model_validate(facts)
    return facts


class Settings(_Part):
    """A router's settings."""

    name: Annotated[str, AfterValidator(_router_name)]
    candidates: Annotated[list[str], AfterValidator(_candidates)]
    aliases: dict[str, list[Name]] = {}
    tiers: bool = False
    labels: LabelKind
    costs_usd: list[float | None] | None
    default_dial: StoredDial | None
    max_tokens: Annotated[int, Field(ge=FEWEST_TOKENS, le=MOST_TOKENS)]
    tail_tokens: Annotated[int, Field(ge=0)] = 0  # older routers were fitted on heads alone
    features: list[str]
    retrieval_means: list[FiniteFloat] = []  # older routers see no facts
    uses_reference: bool
    reads_terms: bool = False  # older routers read none
    tasks: StoredTaskNames = StoredTaskNames()  # older routers take no labels
    calibration: StoredCalibration | None
    second_look: StoredSecondLook | None = None  # older routers look at no answers
    fitted_ids: list[str]
    calibrated_ids: list[str]
    facts: Annotated[dict[str, Any], AfterValidator(_readable)]

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        check_costs(self.costs_usd, self.candidates)
        if self.tail_tokens > self.max_tokens:
            raise ValueError(
                f"tail_tokens is at most max_tokens, {self.max_tokens}; got {self.tail_tokens}"
            )
        if unknown := self.aliases.keys() - set(self.candidates):
            raise ValueError(f"aliases are those of candidates; got {shown(min(unknown))}")
        self._check_calibration()
        return self

    def _check_calibration(self) -> None:
        stored = self.calibration
        if stored is None:
            return
        if self.calibrated_ids and len(self.calibrated_ids) != stored.n:
            raise ValueError(
                f"calibration.n is the number of calibrated_ids, {len(self.calibrated_ids)}; "
                f"got {stored.n}"
            )
        if stored.by_task and stored.by_task.by == "predicted" and len(self.tasks.told) < 2:
            raise ValueError("tasks.told names two tasks or more where tasks are predicted")


@contextmanager
def said_of(where: object) -> Iterator[None]:
    """Say in which file, or part of one, a rule is broken.

    Raises:
        ArtifactError: For a `ConfigurationError` inside.
    """
    try:
        yield
    except ConfigurationError as error:
        raise ArtifactError(f"{where}: {error} {WAY_OUT}") from error


def parse_settings(content: bytes, where: str, way_out: str = WAY_OUT) -> Settings:
    """Read and check a router's settings.

    Args:
        content: The JSON text.
        where: The file, for the message.
        way_out: What to do about it.

    Raises:
        ArtifactError: Names the file, the field, the rule and what was seen.
    """
    try:
        return Settings.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactError(f"{where}: {_first_problem(error)} {way_out}") from None


def _first_problem(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return f"not JSON ({first['msg'].removeprefix('Invalid JSON: ')})."
    place = shown(".".join(map(str, first["loc"])))[1:-1]
    rule = first["msg"].removeprefix("Value error, ").rstrip(".")
    seen = "" if "; got" in rule else f"; got {shown(first['input'])}"
    return f"field {place}: {rule}{seen}." if place else f"{rule}{seen}."
