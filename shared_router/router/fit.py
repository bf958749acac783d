"""Making a router of queries with measured outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from shared_router.data.costs import call_costs, names_of
from shared_router.deciding.rule import savings_from_costs
from shared_router.errors import ConfigurationError, DataError
from shared_router.records import joined_names
from shared_router.router.state import RouterState
from shared_router.support.model_names import joined
from shared_router.training.finetuning.settings import FineTuning
from shared_router.training.fit import fit_scorer
from shared_router.training.needs import check_training

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.labels import LabelKind
    from shared_router.records import Candidate
    from shared_router.support.progress import Progress

R = TypeVar("R", bound=RouterState)


def fit(
    kind: type[R],
    data: RoutingDataset,
    candidates: Sequence[str | Candidate],
    labels: LabelKind,
    encoder: str,
    *,
    name: str | None,
    costs_usd: Mapping[str, float] | None,
    finetune: bool | FineTuning,
    int8: bool,
    train_memory: bool,
    retrieval: bool,
    words: bool,
    look_share: float,
    seed: int,
    cache: bool,
    progress: Progress | None,
) -> R:
    """Train a router; see `Router.fit`."""
    if not data.records:
        raise DataError(f"{data.name}: empty; a router is fitted on at least one query.")
    check_share(look_share)
    names = names_of(candidates)
    complete = data.candidates(names)
    costs = call_costs(candidates, complete, costs_usd)
    savings_from_costs(costs.usd, len(names), names)  # refuses one dearer than the reference
    check_training(encoder, finetuning=bool(finetune))  # before minutes of work, not after
    fitted = fit_scorer(
        complete,
        names,
        labels,
        encoder,
        finetuning=FineTuning() if finetune is True else finetune or None,
        int8=int8,
        train_memory=train_memory,
        retrieval=retrieval,
        words=words,
        seed=seed,
        cache=cache,
        progress=progress,
        costs_usd=costs.usd,
        look_share=look_share,
    )
    return kind(
        candidates=tuple(names),
        scorer=fitted.scorer,
        labels=labels,
        name=name or joined_names(names),
        aliases=joined({}, complete.aliases(names)),
        costs_usd=costs.usd,
        train_memory=fitted.train_memory,
        out_of_fold=fitted.out_of_fold,
        second_look=fitted.second_look,
        fitted_ids=frozenset(complete.ids),
        facts={"training": fitted.facts | {"costs": costs.source}},
    )


def check_share(look_share: object) -> None:
    """Check the greatest share of queries whose answers are looked at.

    Raises:
        ConfigurationError: If it is no share.
    """
    number = isinstance(look_share, int | float) and not isinstance(look_share, bool)
    if not number or not 0 <= look_share <= 1:  # type: ignore[operator]
        raise ConfigurationError(
            f"look_share is a share of queries between 0 and 1; got {look_share!r}."
        )
