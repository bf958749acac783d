"""What second looks save on the pocket pair at a promised limit, and how often that is broken.

python -m tests.benchmarks.second_look_pocket [--temperature 0.7] [--look-share 0.3 1.0]

Distinct questions that no pocket model was trained on, shuffled: 4,000 train the router, 4,000
calibrate it, 6,000 are fresh. The oracle sees in hindsight which answers are as good: it pays the
small model always, gives its answer where it is, and where it is not as often as the limit allows.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cookbook.pocket.batches import BATCH, BatchedModel
from cookbook.pocket.questions import questions
from shared_router import Router
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.deciding.evidence import Evidence
from shared_router.deciding.looks import effective_scores, follow
from shared_router.deciding.paired_test import CriticalValues
from shared_router.deciding.promise import FIRST_LOOK, Promise, errors_of, take_look
from shared_router.measuring.bootstrap import interval, resampled_weights
from shared_router.options import Asked, Dial
from shared_router.router.calibrate import HALF
from shared_router.router.looking import look_at
from shared_router.training.look_width import choose_width
from tests.material import PAIR, Remembering, dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router import RoutingDataset
    from shared_router.deciding.looks import Band, Followed
    from shared_router.measuring.bootstrap import Interval
    from shared_router.serving.answers import Answered
    from shared_router.serving.second_look import SecondLook

    Weights = NDArray[np.float64]

SIZES = {"train": 4000, "calibration": 4000, "fresh": 6000}
LIMITS, CONFIDENCE = (0.01, 0.02, 0.05), 0.9
BROKEN_LIMIT, CALIBRATIONS, MOST_BROKEN = 0.01, 1000, 115
SEED, RESAMPLES = 11, 1000
CONSOLE = Console(width=130)


# -- questions and answers ----------------------------------------------------------------------


def recorded(temperature: float) -> RoutingDataset:
    """Ask both models all questions, each once."""
    asked = questions(sum(SIZES.values()), seed=SEED, split="fresh")
    order = np.random.default_rng(SEED).permutation(len(asked)).tolist()
    texts, rights = [asked[at].text for at in order], [asked[at].answer for at in order]
    outcomes = {name: _outcomes(name, texts, rights, temperature) for name in PAIR}
    splits = np.repeat(list(SIZES), list(SIZES.values())).tolist()
    records = [
        RoutingRecord(
            id=f"{split}-{at}",
            query=text,
            split=split,
            outcomes={name: outcomes[name][at] for name in PAIR},
        )
        for at, (text, split) in enumerate(zip(texts, splits, strict=True))
    ]
    return dataset(*records, name=f"pocket at {temperature:g}")


def _outcomes(
    name: str, texts: Sequence[str], rights: Sequence[str], temperature: float
) -> list[Outcome]:
    model = BatchedModel(name, temperature=temperature)
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    found: dict[int, Outcome] = {}
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        answers = model.answer([(texts[at], 0) for at in batch])
        for at, answer in zip(batch, answers, strict=True):
            found[at] = Outcome(
                quality=(float(answer.text.strip() == rights[at].strip()),),
                response=(answer.text,),
                cost_usd=answer.usage.cost_usd if answer.usage else None,
                logprobs=None if answer.logprobs is None else (answer.logprobs,),
                settings=answer.settings,
            )
    return [found[at] for at in range(len(texts))]


# -- the router ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class RememberingAnswers:
    """A fitted scorer of answers that scores each one once."""

    scorer: Any
    known: dict[Answered, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def needs_logprobs(self) -> bool:
        """As the scorer's."""
        return bool(self.scorer.needs_logprobs)

    def score(self, answers: Sequence[Answered]) -> NDArray[np.float32]:
        """Score what is not known yet."""
        for answer in answers:
            if answer not in self.known:
                self.known[answer] = self.scorer.score([answer])[0]
        return np.array([self.known[answer] for answer in answers])


def remembering(router: Router) -> Router:
    """Score queries and answers once, however often it is calibrated."""
    looks = looks_of(router)
    kept = replace(looks, scorer=RememberingAnswers(looks.scorer))
    return replace(router, scorer=Remembering(router.scorer), second_look=kept)


def looks_of(router: Router) -> SecondLook:
    """Return its second looks."""
    assert router.second_look is not None, router.facts["training"]["second_look"]
    return router.second_look


def with_share(router: Router, look_share: float) -> Router:
    """Choose the width anew, as `fit` does under another `look_share`."""
    looks = looks_of(router)
    assert looks.pairs is not None
    assert router.costs_usd is not None
    band = replace(looks.band(router.rule), width=0.0)
    costs = np.array(router.costs_usd, dtype=np.float64)
    found = choose_width(looks.pairs, band, costs, look_share)
    return replace(router, second_look=replace(looks, width=found.width, pays=found.pays))


# -- fresh questions ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Fresh:
    """Questions with scores, outcomes and costs."""

    before: NDArray[np.float64]
    """Shape (n, 1)."""
    answers: NDArray[np.float64]
    """Shape (n, 1)."""
    quality: NDArray[np.float64]
    """Shape (n, 2)."""
    costs: NDArray[np.float64]
    """Of each call, shape (n, 2)."""

    @classmethod
    def of(cls, router: Router, data: RoutingDataset) -> Fresh:
        """Score them."""
        costs = data.costs_usd(PAIR)
        assert costs is not None
        before = router.score(data.queries).astype(np.float64)
        return cls(
            before, look_at(router, looks_of(router), data).answers, data.quality(PAIR), costs
        )

    def saved(self, cost: Weights, weights: Weights) -> float:
        """Return the share of the large model's compute that is saved."""
        return 1 - float(cost @ weights) / float(self.costs[:, 1] @ weights)

    def drop(self, followed: Followed) -> float:
        """Return the relative drop."""
        given = self.quality[np.arange(len(self.quality)), followed.choice]
        return 1 - float(given.mean() / self.quality[:, 1].mean())

    def oracle(self, limit: float, weights: Weights) -> float:
        """Return what is saved in hindsight, the small model always paid."""
        small, large = self.quality.T
        lost = np.flatnonzero(small < large)
        lost = lost[np.argsort(-self.costs[lost, 1], kind="stable")]
        gained = float((weights * np.maximum(small - large, 0)).sum())
        allowed = limit * float(weights @ large) + gained
        spent = np.cumsum(weights[lost] * (large - small)[lost])
        passed_on = np.zeros(len(small))
        passed_on[lost[spent > allowed]] = 1.0
        return self.saved(self.costs[:, 0] + passed_on * self.costs[:, 1], weights)


def paired(gain: Callable[[Weights], float], n: int) -> Interval:
    """Resample the questions."""
    found = interval([gain(weights) for weights in resampled_weights(n, RESAMPLES)])
    assert found is not None
    return found


def thresholds(router: Router, limit: float) -> dict[str, float]:
    """Resolve a limit that a call writes, on each line that the router has."""
    asked, rules = Asked(Dial("max_quality_drop", limit), True, CONFIDENCE), router.look_rules()
    found = {}
    if router.promises is not None:
        found["without"] = router.dialling().resolve(asked).threshold
    if rules is not None and rules.dialling.promises is not None:
        found["with"] = rules.dialling.resolve(asked).threshold
    return found


def show(fresh: Fresh, routers: dict[str, Router], band: Band) -> None:
    """Print what each line saves at each limit.

    Args:
        fresh: The fresh questions.
        routers: Calibrated for both lines, and for one alone.
        band: The band.
    """
    table = Table(
        "limit", "line", "serves", "saved", "of oracle (95 %)", "more than pre-call (95 %)"
    )
    for name in ("drop", "kept", "looked", "thrown away"):
        table.add_column(name)
    even, n = np.ones(len(fresh.before)), len(fresh.before)
    for limit in LIMITS:
        table.add_row(f"{limit:.0%}", "oracle", "", f"{fresh.oracle(limit, even):.3f}")
        alone = thresholds(routers["without"], limit)["without"]
        known = follow(replace(band, width=0.0), fresh.before, fresh.answers, alone)
        for serves, router in routers.items():
            for line, at in thresholds(router, limit).items():
                own = band if line == "with" else replace(band, width=0.0)
                followed = follow(own, fresh.before, fresh.answers, at)
                cost, usual = followed.costs(fresh.costs), known.costs(fresh.costs)

                def share(weights: Weights, cost: Weights = cost, limit: float = limit) -> float:
                    return fresh.saved(cost, weights) / fresh.oracle(limit, weights)

                def more(weights: Weights, cost: Weights = cost, usual: Weights = usual) -> float:
                    return fresh.saved(cost, weights) - fresh.saved(usual, weights)

                table.add_row(
                    "",
                    line,
                    serves,
                    f"{fresh.saved(cost, even):.3f}",
                    f"{share(even):.2f} " + "({:.2f} to {:.2f})".format(*paired(share, n)),
                    f"{more(even):+.3f} " + "({:+.3f} to {:+.3f})".format(*paired(more, n)),
                    f"{fresh.drop(followed):.2%}",
                    f"{(followed.choice == 0).mean():.3f}",
                    f"{followed.looked.mean():.3f}",
                    f"{followed.thrown_away.mean():.3f}",
                )
    CONSOLE.print(table)


# -- calibrations redrawn -----------------------------------------------------------------------


def broken(fresh: Fresh, router: Router, band: Band) -> dict[str, int]:
    """Calibrate again and again on questions drawn from the fresh ones, which are all there are.

    Each is drawn with replacement and stands for itself; grids are the router's own.

    Returns:
        In how many calibrations the limit is broken, by either line and by each.
    """
    line = looks_of(router).line
    assert line is not None
    assert line.promises is not None
    assert router.promises is not None
    own = {
        "without": (router.promises.whole, fresh.before[:, 0]),
        "with": (line.promises.whole, effective_scores(band, fresh.before, fresh.answers)[:, 0]),
    }
    critical = CriticalValues(errors_of(FIRST_LOOK * HALF))
    drops = {name: _drops(fresh, scores, whole) for name, (whole, scores) in own.items()}
    rng, found = np.random.default_rng(SEED), np.zeros((CALIBRATIONS, 2), dtype=bool)
    for each in found:
        rows = rng.integers(0, len(fresh.before), SIZES["calibration"])
        for at, (name, (whole, scores)) in enumerate(own.items()):
            step = _step(fresh, scores, whole, rows, critical)
            each[at] = drops[name][step] > BROKEN_LIMIT
    counts = found.sum(axis=0).tolist()
    return {"either": int(found.any(axis=1).sum())} | dict(zip(own, counts, strict=True))


def _drops(fresh: Fresh, scores: Weights, promise: Promise) -> Weights:
    """Return the relative drop at each setting, over all there are."""
    lost = fresh.quality[:, 1] - fresh.quality[:, 0]
    routed = scores[None, :] >= promise.thresholds[:, None]
    return np.asarray(routed @ lost / fresh.quality[:, 1].sum())


def _step(
    fresh: Fresh,
    scores: Weights,
    promise: Promise,
    rows: NDArray[np.intp],
    critical: CriticalValues,
) -> int:
    small, large = fresh.quality[rows].T
    ones = np.ones(len(rows))
    evidence = Evidence(scores[rows], large - small, large, ones, (0.0, 1.0), "paired")
    look = take_look(promise.thresholds, evidence, relative=True, critical=critical)
    drawn = replace(promise, looks=(look,))
    return drawn.step(Dial("max_quality_drop", BROKEN_LIMIT), CONFIDENCE)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--look-share", type=float, nargs="+", default=[0.3, 1.0])
    given = parser.parse_args()
    data = recorded(given.temperature)
    parts = {split: data.split(split) for split in SIZES}
    for split, part in parts.items():
        small, large = part.quality(PAIR).mean(axis=0)
        CONSOLE.print(f"{split}: {len(part):,} questions, small {small:.3f}, large {large:.3f}")
    fitted = remembering(Router.fit(parts["train"], PAIR))
    fresh = Fresh.of(fitted, parts["fresh"])
    for look_share in given.look_share:
        router = with_share(fitted, look_share)
        looks, band = looks_of(router), looks_of(router).band(router.rule)
        CONSOLE.print(f"\nlook_share {look_share:g}: width {looks.width:.3f}, pays {looks.pays}")
        if looks.width <= 0:
            continue
        ways = {"both": None, "with": True, "without": False}
        routers = {
            serves: router.calibrate(parts["calibration"], second_look=second_look)
            for serves, second_look in ways.items()
        }
        show(fresh, routers, band)
        found = broken(fresh, routers["both"], band)
        told = ", ".join(f"{name} {count}" for name, count in found.items())
        CONSOLE.print(
            f"{CALIBRATIONS:,} calibrations redrawn, {BROKEN_LIMIT:.0%} broken by: {told} "
            f"(at most {MOST_BROKEN} by either)"
        )


if __name__ == "__main__":
    main()
