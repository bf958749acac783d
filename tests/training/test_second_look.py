"""Training second looks against known truth: heads, folds, the graph, and the band's width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router.data.draws import logprobs_of
from shared_router.deciding.looks import Band, follow
from shared_router.serving.answer_numbers import answer_numbers
from shared_router.serving.second_look import Pairs
from shared_router.serving.session import GraphSession
from shared_router.training.answer_export import export_answer_graph
from shared_router.training.answer_heads import (
    AnswerBatch,
    BeforeHead,
    NumbersHead,
    TrainedAnswers,
    train_answers,
)
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder
from shared_router.training.heads import KernelHead
from shared_router.training.linear import LinearHead
from shared_router.training.look_width import choose_width
from tests.answering import answered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.training.encoder import ExportedEncoder

COSTS = np.array([0.1, 1.0])
BAND = Band(0.0, (1.0, 0.0), 1 / 0.9)
DIMENSIONS = 8
NEAR = 1e-4


# -- what is learned ----------------------------------------------------------------------------


def unit(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    raw = rng.normal(size=(n, DIMENSIONS)).astype(np.float32)
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def made_batch(n: int = 300, *, tells: str = "numbers", seed: int = 0) -> AnswerBatch:
    """Make answers whose numbers, or whose embedding, or nothing tells what they are worth."""
    rng = np.random.default_rng(seed)
    answers, numbers = unit(rng, n), rng.normal(size=(n, 5)).astype(np.float32)
    signal = {"numbers": np.tanh(numbers[:, 0]), "words": 2 * answers[:, 0]}.get(
        tells, rng.normal(size=n)
    )
    before = rng.normal(size=n).astype(np.float32) * 0.1
    targets = signal + 0.1 * rng.normal(size=n)
    return AnswerBatch(unit(rng, n), answers, numbers, before, np.asarray(targets))


def keys(n: int) -> list[str]:
    return [f"query {at}" for at in range(n)]


def correlation(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    return float(np.corrcoef(left, right)[0, 1])


@pytest.mark.parametrize("tells", ["numbers", "words"])
def test_what_an_answer_is_worth_is_learned(tells: str) -> None:
    batch, fresh = made_batch(tells=tells), made_batch(tells=tells, seed=1)
    trained = train_answers(batch, keys(300), 0)
    assert correlation(trained.predict(fresh), fresh.targets) > 0.85
    assert correlation(trained.out_of_fold, batch.targets) > 0.85
    assert set(trained.parts) == set(trained.weights)
    assert all(weight > 0 for weight in trained.weights.values())


def test_answers_that_tell_nothing_teach_nothing() -> None:
    batch, fresh = made_batch(tells="nothing"), made_batch(tells="nothing", seed=1)
    trained = train_answers(batch, keys(300), 0)
    assert abs(correlation(trained.predict(fresh), fresh.targets)) < 0.15
    assert float(np.std(trained.out_of_fold)) < 0.3 * float(np.std(batch.targets))


def test_scores_out_of_fold_have_not_seen_the_query() -> None:
    """Each query stands ten times, under answers of its own, and is worth what luck gave it.

    Who had seen another row of the query would know the luck by heart.
    """
    each, often = 40, 10
    rows = np.repeat(np.arange(each), often)
    batch = made_batch(each, tells="nothing").take(rows)
    groups = [f"query {row}" for row in rows]
    honest = train_answers(batch, groups, 0)
    leaking = train_answers(batch, keys(len(rows)), 0)
    assert correlation(leaking.out_of_fold, batch.targets) > 0.9
    spread = float(np.std(honest.out_of_fold))
    assert spread == pytest.approx(0, abs=1e-9) or (
        abs(correlation(honest.out_of_fold, batch.targets)) < 0.5
    )
    error = float(((honest.out_of_fold - batch.targets) ** 2).mean())
    assert error > 0.8 * float(batch.targets.var())


def test_the_same_seed_trains_the_same_scorer() -> None:
    batch = made_batch()
    one, same = (train_answers(batch, keys(300), 3) for _ in range(2))
    np.testing.assert_array_equal(one.predict(batch), same.predict(batch))
    np.testing.assert_array_equal(one.out_of_fold, same.out_of_fold)


def test_a_number_that_never_varies_weighs_nothing() -> None:
    batch = made_batch()
    batch.numbers[:, 4] = 2.0
    (head,) = NumbersHead.fit(batch, [1.0], 0)
    moved = made_batch()
    moved.numbers[:, 4] = 999.0
    np.testing.assert_allclose(head.predict(moved.features), head.predict(batch.features))


# -- the graph ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tiny_encoder: str, tiny_cache: object) -> ExportedEncoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return load_encoder(tiny_encoder)


def real_batch(encoder: ExportedEncoder, n: int = 120) -> tuple[AnswerBatch, list[str]]:
    """Make a batch of real texts, as fitting does."""
    data = answered(n)
    texts = [(record.outcomes["small"].response or ("",))[0] for record in data]
    numbers = [
        answer_numbers(
            record.query, text, logprobs_of(record.outcomes["small"]), with_logprobs=True
        )
        for record, text in zip(data, texts, strict=True)
    ]
    queries, answers = (embed(encoder, each, cache=False) for each in (data.queries, texts))
    quality = data.quality(["small", "large"])
    before = np.random.default_rng(0).normal(size=n).astype(np.float32) * 0.1
    worth = quality[:, 0] - quality[:, 1]
    return AnswerBatch(queries, answers, np.stack(numbers), before, worth), texts


def by_graph(
    heads: list[TrainedAnswers], encoder: ExportedEncoder, batch: AnswerBatch, texts: list[str]
) -> NDArray[np.float32]:
    """Score by the exported graph, answer by answer, shape (n, k - 1)."""
    dimensions, numbers = batch.queries.shape[1], batch.numbers.shape[1]
    session = GraphSession(export_answer_graph(encoder.graph, heads, numbers, dimensions))
    rows = []
    for at, text in enumerate(texts):
        before = np.full((1, len(heads)), batch.before[at], dtype=np.float32)
        feeds = {
            "query": batch.queries[at][None],
            "before": before,
            "numbers": batch.numbers[at][None],
        }
        rows.append(session.run(["score"], encoder.tokens.encode(text) | feeds)[0])
    return np.concatenate(rows)


def test_the_graph_scores_as_the_heads_do(exported: ExportedEncoder) -> None:
    batch, texts = real_batch(exported)
    trained = train_answers(batch, keys(len(texts)), 0)
    found = by_graph([trained], exported, batch, texts)
    assert found.shape == (len(texts), 1)
    np.testing.assert_allclose(found[:, 0], trained.predict(batch), atol=NEAR)


@pytest.mark.parametrize("name", ["words", "linear", "numbers", "before"])
def test_each_head_alone_is_in_the_graph_as_it_is(exported: ExportedEncoder, name: str) -> None:
    batch, texts = real_batch(exported, 60)
    plain = batch.as_batch()
    part = {
        "words": lambda: KernelHead.fit(plain, [1.0], 0)[0],
        "linear": lambda: LinearHead.fit(
            plain.embeddings, plain.features, plain.targets, ridge=10.0
        ),
        "numbers": lambda: NumbersHead.fit(batch, [1.0], 0)[0],
        "before": BeforeHead,
    }[name]()
    head = TrainedAnswers({name: part}, {name: 0.7}, -0.3, np.zeros(len(texts)))
    found = by_graph([head], exported, batch, texts)[:, 0]
    np.testing.assert_allclose(found, head.predict(batch), atol=NEAR)
    assert float(np.std(found)) > 1e-3


def test_each_candidate_has_its_own_column(exported: ExportedEncoder) -> None:
    batch, texts = real_batch(exported, 60)
    other = AnswerBatch(
        batch.queries, batch.answers, batch.numbers, batch.before, -2 * batch.targets
    )
    heads = [train_answers(each, keys(60), 0) for each in (batch, other)]
    found = by_graph(heads, exported, batch, texts)
    for at, head in enumerate(heads):
        np.testing.assert_allclose(found[:, at], head.predict(batch), atol=NEAR)


# -- the width ----------------------------------------------------------------------------------


def pairs_of(n: int = 1500, *, known: float = 1.0, seed: int = 0, ties: int = 0) -> Pairs:
    """Make pairs of scores; an answer's tells so much of the luck that the query leaves open."""
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0, 1, n)
    right = (rng.random(n) < chance).astype(float)
    large = np.ones(n)
    before = 0.3 * chance + 0.7 * 0.5 - 1 + 0.05 * rng.normal(size=n)
    if ties:
        before = np.round(before * ties) / ties
    told = known * right + (1 - known) * rng.permutation(right)
    answers = 0.8 * told + 0.2 * chance - 1
    return Pairs(before[:, None], answers[:, None], np.stack([right, large], axis=1))


def most_looked(pairs: Pairs, band: Band) -> float:
    """Return the greatest share that is looked at, wherever the threshold stands."""
    own = np.unique(pairs.scores.ravel())
    every = np.concatenate([own, own - band.width, own + band.width])
    places = np.unique(np.concatenate([every - 1e-9, every + 1e-9]))
    return max(
        float(follow(band, pairs.scores, pairs.answers, float(at)).looked.mean()) for at in places
    )


@pytest.mark.parametrize("ties", [0, 40])
@pytest.mark.parametrize("look_share", [0.05, 0.3, 0.62, 1.0])
def test_no_more_than_a_share_is_looked_at_wherever_the_threshold_stands(
    look_share: float, ties: int
) -> None:
    pairs = pairs_of(400, ties=ties)
    found = choose_width(pairs, BAND, COSTS, look_share)
    assert found.share <= look_share
    looked = most_looked(pairs, Band(found.width, BAND.savings, BAND.after))
    assert looked <= found.share + 1e-9


def pairs_of_three(n: int = 600) -> Pairs:
    """Make pairs of three models; whoever is near one threshold is seldom near the other's."""
    rng = np.random.default_rng(0)
    chance = rng.uniform(0, 1, (n, 1))
    each = np.hstack([chance * 0.8, 0.3 + chance * 0.6])
    right = (rng.random((n, 2)) < each).astype(float)
    before = each - 0.97 + 0.05 * rng.normal(size=(n, 2))
    return Pairs(before, 0.8 * right + 0.2 * each - 0.97, np.hstack([right, np.ones((n, 1))]))


@pytest.mark.parametrize("savings", [(1.0, 0.8, 0.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0)])
@pytest.mark.parametrize("look_share", [0.1, 0.3, 1.0])
def test_of_three_models_too_no_more_than_a_share_is_looked_at(
    look_share: float, savings: tuple[float, ...]
) -> None:
    pairs, band = pairs_of_three(), Band(0.0, savings, 1.02)
    costs = 1 - 0.98 * np.array(savings)
    found = choose_width(pairs, band, costs, look_share)
    assert found.width > 0
    own = Band(found.width, savings, band.after)
    looked = [
        follow(own, pairs.scores, pairs.answers, float(at)).looked.mean()
        for at in np.linspace(-2, 1.5, 1500)
    ]
    assert max(looked) <= found.share + 0.01  # between the places where it is measured


def test_where_answers_tell_looks_pay() -> None:
    found = choose_width(pairs_of(), BAND, COSTS, 0.5)
    assert found.width > 0
    assert found.pays
    assert 0 < found.interval[0] < found.saved < found.interval[1]


@pytest.mark.parametrize("seed", range(5))
def test_where_answers_tell_nothing_looks_do_not_pay(seed: int) -> None:
    found = choose_width(pairs_of(known=0.0, seed=seed), BAND, COSTS, 0.5)
    assert not found.pays
    assert found.width == 0


def test_more_may_be_looked_at_where_more_is_allowed() -> None:
    pairs = pairs_of()
    widths = [choose_width(pairs, BAND, COSTS, share).width for share in (0.1, 0.3, 1.0)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_where_the_small_model_costs_as_much_looks_do_not_pay() -> None:
    costs, band = np.array([0.99, 1.0]), Band(0.0, (1.0, 0.0), 100.0)
    assert choose_width(pairs_of(), band, costs, 0.5).width == 0
