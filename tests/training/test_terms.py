"""The words of a query as a signal: hashing, learning, serving, and what a router keeps of them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router import FineTuning, Router
from shared_router.data.labels import make_labels
from shared_router.errors import ArtifactError
from shared_router.router.folder import write_folder
from shared_router.serving.features import FEATURE_NAMES, feature_matrix
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.session import GraphSession
from shared_router.serving.terms import BUCKETS, hashed_terms
from shared_router.serving.tokens import MAX_CHARACTERS
from shared_router.training.blend import Blend
from shared_router.training.cross_validation import mixture, train_head
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder
from shared_router.training.export import export_router_graph, export_tuned_graph
from shared_router.training.finetuning.tune import finetune
from shared_router.training.fit import train_on_embeddings
from shared_router.training.heads import RIDGES, Batch
from shared_router.training.term_head import TERM_RIDGES, TermHead, term_matrix
from tests.material import PAIR, dataset, record

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router import RoutingDataset

HARD_WORDS = ("integral", "theorem", "manifold")
EASY_WORDS = ("hello", "weather", "colour")
FILLERS = [f"filler{i}" for i in range(60)]


def worded(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Make texts in which one word among eight tells the gap."""
    rng = np.random.default_rng(seed)
    gaps = rng.integers(0, 2, size=n) - 1.0
    texts = []
    for gap in gaps:
        words = [*rng.choice(FILLERS, size=8), rng.choice(HARD_WORDS if gap < 0 else EASY_WORDS)]
        texts.append(" ".join(rng.permutation(words)))
    return texts, gaps[:, None]


def batch_of(texts: list[str], gaps: np.ndarray, seed: int = 0) -> Batch:
    """Give texts embeddings and features that tell nothing."""
    raw = np.random.default_rng(seed).normal(size=(len(texts), 8)).astype(np.float32)
    embeddings = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return Batch(embeddings, raw[:, :3], gaps, (None,) * len(texts), term_matrix(texts))


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


@given(st.text(max_size=300) | st.text("ab \udc80\ud83d", max_size=60))
def test_terms_are_distinct_buckets_with_positive_weights(text: str) -> None:
    terms = hashed_terms(text)
    assert terms.buckets.dtype == np.int64
    assert terms.weights.dtype == np.float32
    assert (np.diff(terms.buckets) > 0).all()
    assert ((terms.buckets >= 0) & (terms.buckets < BUCKETS)).all()
    assert len(terms.weights) == len(terms.buckets)
    assert (terms.weights >= 1).all()
    assert np.isfinite(terms.weights).all()


@given(st.lists(st.sampled_from(FILLERS), max_size=30))
def test_capitals_and_signs_change_nothing(words: list[str]) -> None:
    plain, loud = hashed_terms(" ".join(words)), hashed_terms(" -- ".join(words).upper() + "?!")
    np.testing.assert_array_equal(plain.buckets, loud.buckets)
    np.testing.assert_array_equal(plain.weights, loud.weights)


def test_words_and_neighbouring_pairs_are_counted() -> None:
    assert len(hashed_terms("which river").buckets) == 3
    assert len(hashed_terms("which river which river").buckets) == 4
    thrice = hashed_terms("river river river")  # one word, one pair
    assert sorted(thrice.weights.tolist()) == pytest.approx([1 + np.log(2), 1 + np.log(3)])


def test_another_process_hashes_alike() -> None:
    text = "Which river flows through Köln? 漢字 漢字"
    code = (
        "from shared_router.serving.terms import hashed_terms\n"
        f"print(hashed_terms({text!r}).buckets.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(hashed_terms(text).buckets.tolist())


def test_of_a_long_text_head_and_tail_are_read() -> None:
    half = MAX_CHARACTERS // 2
    first, last = ("a1 " * half)[:half], (" z9" * half)[-half:]
    long = hashed_terms(first + "middle " * 20_000 + last)
    np.testing.assert_array_equal(long.buckets, hashed_terms(first + last).buckets)


@pytest.mark.parametrize("texts", [[], [""], ["?", "two words", ""]])
def test_a_matrix_has_a_row_for_every_text(texts: list[str]) -> None:
    matrix = term_matrix(texts)
    assert matrix.shape == (len(texts), BUCKETS)
    for at, text in enumerate(texts):
        assert matrix[[at]].nnz == len(hashed_terms(text).buckets)


def test_it_is_ridge_regression() -> None:
    texts, gaps = worded(60)
    terms = term_matrix(texts)
    (head,) = TermHead.fit(terms, gaps, (3.0,))
    used = np.flatnonzero(head.idf)
    rows = terms.toarray()[:, used] * head.idf[used].astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centred = rows - rows.mean(axis=0)
    weights = np.linalg.solve(centred.T @ centred + 3.0 * np.eye(len(used)), centred.T @ gaps)
    expected = centred @ weights + gaps.mean(axis=0)
    np.testing.assert_allclose(head.predict(terms), expected, atol=2e-3)


def test_texts_without_known_words_are_given_one_score() -> None:
    texts, gaps = worded(80)
    (head,) = TermHead.fit(term_matrix(["", "?", *texts]), np.vstack([[[0.0]] * 2, gaps]), (3.0,))
    found = head.predict(term_matrix(["", "words never seen"]))
    assert np.isfinite(found).all()
    assert abs(found[0, 0] - found[1, 0]) < 1e-9
    (empty,) = TermHead.fit(term_matrix([""] * 5), np.arange(5.0)[:, None], (3.0,))
    np.testing.assert_allclose(empty.predict(term_matrix(["a word"])), [[2.0]])


def test_words_are_a_part_where_only_they_tell() -> None:
    texts, gaps = worded(400)
    fresh, truth = worded(200, seed=1)
    head = train_head(batch_of(texts, gaps), texts, probability=False)
    unseen = batch_of(fresh, truth, seed=1)
    found = head.predict(unseen.embeddings, unseen.features, terms=unseen.terms)
    assert head.weights["terms"] > 0.5
    assert correlation(found, truth) > 0.8


def test_words_that_tell_nothing_are_not_learned_from() -> None:
    texts, gaps = worded(300)
    noise = np.random.default_rng(5).permutation(gaps)
    fresh, truth = worded(300, seed=1)
    head = train_head(batch_of(texts, noise), texts, probability=False)
    unseen = batch_of(fresh, truth, seed=1)
    found = head.predict(unseen.embeddings, unseen.features, terms=unseen.terms)
    assert "terms" not in head.parts
    assert abs(correlation(found, truth)) < 0.25


@pytest.mark.parametrize(("gain", "kept"), [(0.03, False), (0.3, True)])
def test_words_must_help_by_more_than_chance(gain: float, kept: bool) -> None:
    rng = np.random.default_rng(0)
    told, hidden = rng.normal(size=(2, 1000, 1))
    targets = told + gain * hidden + rng.normal(size=(1000, 1))
    unseen = {f"kernel@{ridge}": told for ridge in RIDGES}
    unseen |= {f"terms@{ridge}": told + hidden for ridge in TERM_RIDGES}
    found = mixture(unseen, targets)
    assert ("terms" in found.weights) == ("terms" in found.ridges) == kept


def test_their_penalty_is_the_one_that_adds_most() -> None:
    rng = np.random.default_rng(0)
    told, hidden = rng.normal(size=(2, 1000, 1))
    targets = told + hidden
    alone = {3.0: hidden, 10.0: 0.9 * told, 30.0: 0.95 * told}  # the others repeat the kernel
    unseen = {f"kernel@{ridge}": told for ridge in RIDGES}
    unseen |= {f"terms@{ridge}": alone[ridge] for ridge in TERM_RIDGES}
    assert mixture(unseen, targets).ridges["terms"] == 3.0


def told_by_words(n: int, *, seed: int = 0, extra: bool = False) -> RoutingDataset:
    """Make queries whose words alone tell whether the small model is right."""
    texts, gaps = worded(n, seed)
    small = (gaps[:, 0] + 1).tolist()
    others = [{"third": right} if extra else {} for right in small]
    return dataset(
        *(
            record(f"{seed}-{at}", text, small=right, large=1.0, **other)
            for at, (text, right, other) in enumerate(zip(texts, small, others, strict=True))
        )
    )


@pytest.fixture(scope="module")
def router(tiny_cache: Path, tiny_encoder: str) -> Router:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(told_by_words(300), PAIR, encoder=tiny_encoder, train_memory=False)


def graph_of(router: Router) -> GraphScorer:
    assert isinstance(router.scorer, GraphScorer)
    return router.scorer


def test_a_fitted_router_reads_the_words(router: Router) -> None:
    assert graph_of(router).reads_terms
    fresh = told_by_words(100, seed=1)
    gaps = fresh.quality(PAIR)[:, 0] - 1.0
    assert correlation(router.score(fresh.queries), gaps) > 0.7


def test_a_saved_router_scores_alike_and_holds_no_words(router: Router, tmp_path: Path) -> None:
    router.save_pretrained(tmp_path / "router")
    read = Router.from_pretrained(tmp_path / "router")
    texts = ["", "an integral", "x " * 60_000, *told_by_words(20, seed=2).queries]
    np.testing.assert_array_equal(read.score(texts), router.score(texts))
    held = b"".join(path.read_bytes() for path in (tmp_path / "router").iterdir())
    assert not any(word.encode() in held for word in ("manifold", "filler7"))


def test_a_router_that_reads_words_takes_a_candidate_that_reads_them(
    router: Router, tmp_path: Path
) -> None:
    more = router.add_candidate("third", told_by_words(300, seed=3, extra=True))
    fresh = told_by_words(100, seed=1)
    gaps, scores = fresh.quality(PAIR)[:, 0] - 1.0, more.score(fresh.queries)
    third, small = (more.candidates.index(name) for name in ("third", "small"))
    assert correlation(scores[:, third], gaps) > 0.7
    np.testing.assert_array_equal(scores[:, small], router.score(fresh.queries)[:, 0])
    more.save_pretrained(tmp_path / "more")
    again = pickle.loads(pickle.dumps(Router.from_pretrained(tmp_path / "more").scorer))  # noqa: S301
    np.testing.assert_array_equal(again.score(fresh.queries), scores)


def test_without_words_none_are_kept_then_or_later(
    tiny_encoder: str, in_tiny_cache: Path, tmp_path: Path
) -> None:
    blind = Router.fit(told_by_words(300), PAIR, encoder=tiny_encoder, words=False)
    more = blind.add_candidate("third", told_by_words(300, seed=3, extra=True))
    assert not graph_of(blind).reads_terms
    assert not graph_of(more).reads_terms
    more.save_pretrained(tmp_path / "blind")
    assert "hashed words" not in (tmp_path / "blind" / "README.md").read_text()


def test_words_stand_beside_a_fine_tuned_encoder(tiny_encoder: str, in_tiny_cache: Path) -> None:
    data, encoder = told_by_words(300), load_encoder(tiny_encoder)
    labels = make_labels(data, PAIR, "gap")
    head = train_on_embeddings(data, labels, embed(encoder, data.queries), neighbours=False)
    tuned = finetune(data, PAIR, labels, encoder, FineTuning(epochs=1, precision="float32"))
    graph = export_router_graph(encoder.graph, Blend(tuned.graph, 0.3, head), len(FEATURE_NAMES))
    both = GraphScorer(GraphSession(graph), encoder.tokens, reads_terms=True)
    alone = GraphScorer(GraphSession(export_tuned_graph(tuned.graph)), encoder.tokens)
    texts = ["", *told_by_words(20, seed=6).queries]
    scores, embeddings = both.score_and_embed(texts)
    heads = head.predict(embeddings, feature_matrix(texts), terms=term_matrix(texts))
    np.testing.assert_allclose(scores, 0.3 * alone.score(texts) + 0.7 * heads, atol=1e-4)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_the_labels_unit_does_not_matter(unit: float) -> None:
    texts, gaps = worded(200)
    terms = term_matrix(texts)
    (one,), (other,) = (TermHead.fit(terms, gaps * by, (3.0,)) for by in (1.0, unit))
    np.testing.assert_allclose(other.predict(terms), one.predict(terms) * unit, rtol=1e-2)


def test_a_query_that_stands_often_counts_once() -> None:
    texts, gaps = worded(50)
    (head,) = TermHead.fit(
        term_matrix([*texts, *["a bluefalcon"] * 5]), np.vstack([gaps, [[1.0]] * 5]), (3.0,)
    )
    (bucket,) = hashed_terms("bluefalcon").buckets
    assert head.idf[bucket] == 0
    assert head.weights[bucket, 0] == 0


def test_the_hash_is_the_one_that_saved_routers_know() -> None:
    assert hashed_terms("Which river?").buckets.tolist() == [46397, 79247, 91947]


def test_versions_that_know_no_words_refuse_such_a_router(router: Router, tmp_path: Path) -> None:
    router.save_pretrained(tmp_path / "router")
    settings = json.loads((tmp_path / "router" / "router.json").read_text())
    assert settings["features"] != list(FEATURE_NAMES)  # the list that they ask for
    assert "hashed words" in (tmp_path / "router" / "README.md").read_text()


def test_a_router_whose_settings_lost_its_words_is_refused(router: Router, tmp_path: Path) -> None:
    router.save_pretrained(tmp_path / "router")
    files = {path.name: path.read_bytes() for path in (tmp_path / "router").iterdir()}
    settings = json.loads(files["router.json"])
    del settings["reads_terms"], files["manifest.json"]
    write_folder(tmp_path / "other", files | {"router.json": json.dumps(settings).encode()})
    with pytest.raises(ArtifactError, match="other query features"):
        Router.from_pretrained(tmp_path / "other")
