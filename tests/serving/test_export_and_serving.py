"""The graph computes what was trained, for one query or many, in any thread and process."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router import Router
from shared_router.errors import ArtifactError
from shared_router.serving.features import FEATURE_NAMES, feature_matrix
from shared_router.serving.memory import TrainMemory
from shared_router.serving.scorer import GraphScorer, Scorer
from shared_router.serving.session import GraphSession
from shared_router.serving.tokens import Tokens
from shared_router.testing import FixedScorer
from shared_router.training.cross_validation import TrainedHead
from shared_router.training.encoder import load_encoder
from shared_router.training.export import export_router_graph
from shared_router.training.heads import Batch, KernelHead, NeighbourHead, TaskHead
from shared_router.training.linear import LinearHead
from shared_router.training.term_head import TermHead, term_matrix
from tests.material import EASY, HARD, PAIR, known_truth

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router.training.encoder import ExportedEncoder

TEXTS = [*EASY, *HARD, "", "x" * 50_000, "ünïcödé 😀\n\n(A) one"]


@pytest.fixture
def encoder(in_tiny_cache: Path, tiny_encoder: str) -> ExportedEncoder:
    return load_encoder(tiny_encoder)


def scorer_of(encoder: ExportedEncoder, graph: bytes, memory: np.ndarray | None) -> GraphScorer:
    tokens = encoder.tokens
    return GraphScorer(GraphSession(graph), tokens, memory)


def made_head(parts: tuple[str, ...], probability: bool, columns: int = 1) -> TrainedHead:
    """Fit the named parts on random material, 300 rows so that neighbours choose."""
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(300, 16)).astype(np.float32)
    embeddings = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    texts = [f"{'why ' * (i % 5)} item {i}?" for i in range(300)]
    tasks = tuple("ab"[i % 2] for i in range(300))
    targets = rng.random((300, columns))
    batch = Batch(embeddings, feature_matrix(texts), targets, tasks, term_matrix(texts))
    every = {
        "kernel": KernelHead.fit(batch, (3.0,), seed=0)[0],
        "neighbours": NeighbourHead.fit(batch),
        "task": TaskHead.fit(batch, ("a", "b")),
        "terms": TermHead.fit(batch.terms, targets, (3.0,))[0],
        "linear": LinearHead.fit(embeddings, batch.features, targets, ridge=3.0),
    }
    link = (np.full(columns, 2.5), np.full(columns, -0.5)) if probability else None
    weights = {name: 0.3 + 0.2 * i for i, name in enumerate(parts)}
    chosen = {name: every[name] for name in parts}
    return TrainedHead(chosen, weights, targets.mean(axis=0), link, 3.0)


@pytest.mark.parametrize("probability", [False, True])
@pytest.mark.parametrize(
    "parts",
    [
        ("kernel",),
        ("linear",),
        ("kernel", "neighbours"),
        ("kernel", "task"),
        ("kernel", "neighbours", "task"),
        ("terms",),
        ("kernel", "neighbours", "task", "terms"),
    ],
)
def test_the_graph_computes_what_was_trained(
    encoder: ExportedEncoder, parts: tuple[str, ...], probability: bool
) -> None:
    head = made_head(parts, probability, columns=2)
    neighbours = head.parts.get("neighbours")
    memory = np.ascontiguousarray(neighbours.embeddings.T) if neighbours else None
    graph = export_router_graph(encoder.graph, head, len(FEATURE_NAMES))
    plain = scorer_of(encoder, graph, memory)
    scorer = replace(plain, reads_terms="terms" in parts)
    scores, embeddings = scorer.score_and_embed(TEXTS)
    expected = head.predict(embeddings, feature_matrix(TEXTS), terms=term_matrix(TEXTS))
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert scores.dtype == np.float32
    assert (((scores > 0) & (scores < 1)).all()) or not probability


@pytest.mark.parametrize("labels", ["gap", "det"])
def test_fitted_routers_of_every_kind_score_finitely(
    in_tiny_cache: Path, tiny_encoder: str, labels: str
) -> None:
    router = Router.fit(known_truth(60), PAIR, labels=labels, encoder=tiny_encoder)  # type: ignore[arg-type]
    scores = router.score(TEXTS)
    assert scores.shape == (len(TEXTS), 1)
    assert np.isfinite(scores).all()


def test_a_score_never_depends_on_its_neighbours(fitted: Router) -> None:
    together = fitted.score(TEXTS)
    alone = np.concatenate([fitted.score([text]) for text in TEXTS])
    backwards = fitted.score(TEXTS[::-1])[::-1]
    assert together.tobytes() == alone.tobytes() == backwards.tobytes()


def test_a_score_is_the_same_from_many_threads(fitted: Router) -> None:
    fresh = pickle.loads(pickle.dumps(fitted))  # noqa: S301  (opens its session in the race below)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: fresh.score([text])[0, 0], TEXTS * 20))
    assert found == fitted.score(TEXTS)[:, 0].tolist() * 20


def test_no_texts_have_no_scores(fitted: Router) -> None:
    assert fitted.score([]).shape == (0, 1)


def test_of_a_long_text_the_head_and_the_tail_are_read(encoder: ExportedEncoder) -> None:
    tokens = encoder.tokens
    ids = tokens.ids("greet " + "word " * 500 + "city")
    whole = Tokens(tokens.serialized, 10_000).ids("greet " + "word " * 500 + "city")
    assert len(ids) == tokens.max_tokens == 64
    assert ids == whole[:32] + whole[-32:]


@pytest.mark.parametrize("length", [20_001, 100_000])
def test_the_tail_of_a_very_long_text_is_its_tail(encoder: ExportedEncoder, length: int) -> None:
    text = "greet " + "x " * (length // 2) + "name the capital city"
    ending = encoder.tokens.ids("name the capital city")[1:]
    assert encoder.tokens.ids(text)[-len(ending) :] == ending
    assert encoder.tokens.ids(text)[:2] == encoder.tokens.ids("greet")[:2]


def test_a_text_that_fits_is_read_whole(encoder: ExportedEncoder) -> None:
    text = " ".join(["word"] * 15)
    assert encoder.tokens.ids(text) == Tokens(encoder.tokens.serialized, 10_000).ids(text)


def test_older_routers_read_heads_alone(encoder: ExportedEncoder) -> None:
    older = Tokens(encoder.tokens.serialized, 64)
    whole = Tokens(encoder.tokens.serialized, 10_000).ids("greet " + "word " * 500)
    assert older.ids("greet " + "word " * 500) == whole[:63] + whole[-1:]


def test_long_texts_are_known_to_be(encoder: ExportedEncoder) -> None:
    assert encoder.tokens.exceeds("word " * 500)
    assert encoder.tokens.exceeds("x" * 30_000)
    assert not encoder.tokens.exceeds("word")


def test_a_decision_says_that_the_query_was_truncated(fitted: Router) -> None:
    assert fitted.decide("word " * 20_000, threshold=0).query_truncated
    assert not fitted.decide("solve 3x", threshold=0).query_truncated


def test_a_pickled_router_scores_alike(calibrated: Router) -> None:
    calibrated.score(TEXTS)
    copy = pickle.loads(pickle.dumps(calibrated))  # noqa: S301
    assert copy.score(TEXTS).tobytes() == calibrated.score(TEXTS).tobytes()
    assert copy.decide("solve 3x").threshold == calibrated.decide("solve 3x").threshold


def test_fakes_and_graphs_are_scorers(fitted: Router) -> None:
    assert isinstance(fitted.scorer, Scorer)
    assert isinstance(FixedScorer(), Scorer)


def in_a_process(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_serving_imports_nothing_heavy(calibrated: Router, tmp_path: Path) -> None:
    calibrated.save_pretrained(tmp_path / "router")
    found = in_a_process(
        """
        import json, sys
        from shared_router import Router
        router = Router.from_pretrained(sys.argv[1])
        router.score(["one", "two"])
        decision = router.decide("solve 3x", cost_advantage=0.5)
        heavy = ("torch", "transformers", "scipy", "pandas", "sklearn", "onnx", "matplotlib",
                 "langchain_core", "llama_index")
        print(json.dumps([decision.reason, [name for name in heavy if name in sys.modules]]))
        """,
        str(tmp_path / "router"),
    )
    assert json.loads(found) == ["score", []]


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_a_router_survives_a_fork(calibrated: Router, tmp_path: Path) -> None:
    calibrated.save_pretrained(tmp_path / "router")
    found = in_a_process(
        """
        import os, sys
        from shared_router import Router
        router = Router.from_pretrained(sys.argv[1])
        before = router.score(["one", "two", "three"])
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, router.score(["one", "two", "three"]).tobytes())
            os._exit(0)
        os.wait()
        print(os.read(read, 1000) == before.tobytes())
        """,
        str(tmp_path / "router"),
    )
    assert found.strip() == "True"


def test_a_graph_holds_no_path_of_this_machine(fitted: Router) -> None:
    assert b".py" not in fitted.scorer.session.bytes


def test_neighbours_are_kept_with_a_router(encoder: ExportedEncoder, tmp_path: Path) -> None:
    head = made_head(("kernel", "neighbours"), probability=False, columns=1)
    known = head.parts["neighbours"].embeddings.astype(np.float16)
    memory = TrainMemory(known, np.zeros((len(known), 1), dtype=np.float32))
    graph = export_router_graph(encoder.graph, head, len(FEATURE_NAMES))
    scorer = scorer_of(encoder, graph, memory.as_input())
    router = Router(candidates=tuple(PAIR), scorer=scorer, train_memory=memory)
    router.save_pretrained(tmp_path / "router")
    read = Router.from_pretrained(tmp_path / "router")
    np.testing.assert_array_equal(read.score(TEXTS), router.score(TEXTS))


def test_a_graph_that_was_replaced_since_is_not_taken_for_it(
    calibrated: Router, tmp_path: Path
) -> None:
    calibrated.save_pretrained(tmp_path / "router")
    path = tmp_path / "router" / "graph.onnx"
    session = GraphSession(path, calibrated.scorer.session.sha256)
    assert session.bytes == path.read_bytes()
    for content in (b"another", None):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(ArtifactError, match="replaced since it was loaded"):
            assert session.bytes
