"""Facts of retrieval: what they are, what a router makes of them, and what it does without."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared_router import FineTuning, RetrievalFacts, Router, RoutingDataset, routing_query
from shared_router.bulk.score import score_file
from shared_router.deciding.guards import RoutingRequest
from shared_router.engine.engine import RoutingEngine
from shared_router.errors import ArtifactError, DataError
from shared_router.records import Candidate
from shared_router.retrieval import RETRIEVAL_NAMES
from shared_router.serving.features import FEATURE_NAMES, feature_matrix
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.session import GraphSession
from shared_router.training.quantisation import int8_graph
from shared_router.training.retrieval import MissingFactsWarning, data_features, learned_means
from tests.material import PAIR, by_retrieval, dataset, record, write_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_tiny_cache")
TEXTS = ["please today in short no. 1", "slowly as a list no. 2", "with care no. 3"]
GOOD = RetrievalFacts.of([0.9] * 3, context_tokens=300)
BAD = RetrievalFacts.of([0.1] * 3, context_tokens=300)
TRAIN, VALIDATION = by_retrieval(240), by_retrieval(200, split="validation", seed=1)
finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(scope="module")
def seeing(tiny_encoder: str, tiny_cache: Path) -> Router:
    """A router that sees facts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(TRAIN, PAIR, encoder=tiny_encoder)


@pytest.fixture(scope="module")
def blind(tiny_encoder: str, tiny_cache: Path) -> Router:
    """One fitted on the same queries, without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(by_retrieval(240, facts=False), PAIR, encoder=tiny_encoder)


def graph_of(router: Router) -> GraphScorer:
    assert isinstance(router.scorer, GraphScorer)
    return router.scorer


def sees(router: Router) -> bool:
    """Tell whether the small model gets the good retrievals."""
    good, bad = (router.score(TEXTS, retrieval=[facts] * 3)[:, 0] for facts in (GOOD, BAD))
    return bool((good > bad + 0.3).all())


# -- the facts ------------------------------------------------------------------------------------


def test_a_node_whose_score_is_no_number_is_counted_all_the_same() -> None:
    found = RetrievalFacts.of([0.5, float("nan"), None], ["abcd", "efgh", "ijkl"])
    assert found == RetrievalFacts(nodes=3, top_score=0.5, context_tokens=3)


@given(st.lists(finite | st.none(), max_size=6), st.integers(0, 10**9))
def test_any_facts_give_finite_features(scores: list[float | None], tokens: int) -> None:
    facts = RetrievalFacts.of(scores, context_tokens=tokens)
    known = sorted((score for score in scores if score is not None), reverse=True)
    assert (facts.nodes, facts.context_tokens) == (len(scores), tokens)
    assert facts.top_score == (known[0] if known else None)
    assert facts.second_score == (known[1] if len(known) > 1 else None)
    row = feature_matrix(["a"], [facts], (1.0, 2.0, 3.0, 4.0))
    assert row.shape == (1, len(FEATURE_NAMES) + len(RETRIEVAL_NAMES))
    assert np.isfinite(row).all()
    assert np.isfinite(row.std(axis=0)).all()


@given(st.permutations([0.25, None, 0.75, 0.5]))
def test_the_order_of_nodes_is_nothing(scores: list[float | None]) -> None:
    facts = RetrievalFacts.of(scores, ["1234"] * 4)
    assert facts == RetrievalFacts(nodes=4, top_score=0.75, second_score=0.5, context_tokens=4)
    assert facts.columns() == (4.0, 0.75, 0.25, math.log(5))


def test_a_lone_node_leads_no_other_and_unknown_scores_are_unknown() -> None:
    assert RetrievalFacts.of([0.5], ["x" * 9]).columns()[:3] == (1.0, 0.5, 0.0)
    assert RetrievalFacts.of([None, None]).columns() == (2.0, None, None, 0.0)
    assert RetrievalFacts.of(np.array([0.5], dtype=np.float32)).top_score == 0.5


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"top_score": math.nan}, "finite"),
        ({"top_score": math.inf}, "finite"),
        ({"nodes": -1}, "greater than or equal to 0"),
        ({"context_tokens": -1}, "greater than or equal to 0"),
        ({"context_tokens": 10**10}, "less than or equal"),
        ({"top_score": 0.1, "second_score": 0.2}, "at most top_score"),
        ({"second_score": 0.2}, "at most top_score"),
        ({"text": "a secret"}, "not permitted"),
    ],
)
def test_impossible_facts_are_refused_at_construction(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        RetrievalFacts(**{"nodes": 1, "context_tokens": 1} | fields)


def test_facts_stand_in_data_files(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"
    VALIDATION.save(path)
    assert RoutingDataset.load(path).retrieval == VALIDATION.retrieval
    row = VALIDATION.records[0].model_dump(mode="json", exclude_none=True)
    row["retrieval"]["top_score"] = "high"
    with pytest.raises(DataError, match=r"line 1: field retrieval\.top_score"):
        RoutingDataset.load(write_lines(tmp_path / "bad.jsonl", [row]))


# -- fitting --------------------------------------------------------------------------------------


def test_where_facts_decide_a_router_that_sees_them_knows(seeing: Router, blind: Router) -> None:
    with_facts, without = (router.evaluate(VALIDATION, resamples=50) for router in (seeing, blind))
    assert with_facts.router["apgr"] > without.router["apgr"] + 0.2
    assert without.router["apgr"] < 0.55
    tops = np.linspace(0.05, 0.95, 7)
    facts = [RetrievalFacts.of([top] * 3, context_tokens=300) for top in tops]
    found = seeing.score(TEXTS[:1] * 7, retrieval=facts)[:, 0]
    assert (np.diff(found[1:-1]) > 0).all()
    assert found[-1] - found[0] > 0.4


def test_without_facts_a_router_is_as_it_was(tiny_encoder: str, blind: Router) -> None:
    ignoring = Router.fit(TRAIN, PAIR, encoder=tiny_encoder, retrieval=False)
    assert graph_of(ignoring).session.bytes == graph_of(blind).session.bytes
    for router in (ignoring, blind):
        assert not router.sees_retrieval
        assert "retrieval_means" not in router.facts["training"]
        plain = router.score(TEXTS)
        np.testing.assert_array_equal(router.score(TEXTS, retrieval=[GOOD] * 3), plain)
        decision = router.decide(TEXTS[0], retrieval=GOOD)
        assert (decision.retrieval, decision.retrieval_source) == (None, None)


def test_facts_of_some_queries_alone_are_refused(tiny_encoder: str) -> None:
    mixed = dataset(*TRAIN.records[:100], *by_retrieval(20, seed=5, facts=False))
    with pytest.raises(DataError, match=r"100 of 120 queries.*retrieval=False.*--no-retrieval"):
        Router.fit(mixed, PAIR, encoder=tiny_encoder)
    assert not Router.fit(mixed, PAIR, encoder=tiny_encoder, retrieval=False).sees_retrieval


def test_a_column_that_nobody_knows_is_nothing() -> None:
    unscored = RetrievalFacts.of([None] * 2, context_tokens=9)
    rows = [record("1", small=1.0, large=1.0), record("2", small=1.0, large=1.0)]
    data = dataset(*(row.model_copy(update={"retrieval": unscored}) for row in rows))
    means = learned_means(data)
    assert means == (2.0, 0.0, 0.0, pytest.approx(math.log(10)))
    assert np.isfinite(data_features(data, means)).all()


@pytest.mark.parametrize("blend", [True, False])
def test_a_fine_tuned_router_sees_facts(tiny_encoder: str, tmp_path: Path, blend: bool) -> None:
    settings = FineTuning(
        epochs=2, learning_rate=1e-3, batch_size=16, warmup=0.0, blend=blend, precision="float32"
    )
    router = Router.fit(by_retrieval(120), PAIR, encoder=tiny_encoder, finetune=settings)
    good, bad = (router.score(TEXTS, retrieval=[facts] * 3).mean() for facts in (GOOD, BAD))
    assert good > bad
    router.save_pretrained(tmp_path / "router")
    read = Router.from_pretrained(tmp_path / "router")
    told = [GOOD, BAD, None]
    assert (
        read.score(TEXTS, retrieval=told).tobytes() == router.score(TEXTS, retrieval=told).tobytes()
    )


# -- serving --------------------------------------------------------------------------------------


def test_a_call_without_facts_is_scored_at_their_means(seeing: Router) -> None:
    plain = seeing.score(TEXTS)
    np.testing.assert_array_equal(seeing.score(TEXTS, retrieval=[None] * 3), plain)
    nodes, top, gap, tokens = graph_of(seeing).retrieval_means
    columns = np.array([facts.columns() for facts in TRAIN.retrieval if facts])
    np.testing.assert_allclose([nodes, top, gap, tokens], columns.mean(axis=0))
    unscored = RetrievalFacts.of([None] * 3, context_tokens=300)
    at_means = RetrievalFacts.of([top] * 3, context_tokens=300)
    np.testing.assert_allclose(
        seeing.score(TEXTS, retrieval=[unscored] * 3),
        seeing.score(TEXTS, retrieval=[at_means] * 3),
        atol=1e-4,
    )
    good, bad = (seeing.score(TEXTS, retrieval=[facts] * 3) for facts in (GOOD, BAD))
    assert ((plain > bad) & (plain < good)).all()


def test_a_score_rests_on_its_own_facts_alone(seeing: Router) -> None:
    told = [GOOD, BAD, None]
    together = seeing.score(TEXTS, retrieval=told)
    alone = [seeing.score([t], retrieval=[f])[0] for t, f in zip(TEXTS, told, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_a_decision_says_which_facts_were_scored(seeing: Router) -> None:
    told = seeing.decide(TEXTS[0], retrieval=GOOD)
    assert (told.candidate, told.retrieval, told.retrieval_source) == ("small", GOOD, "given")
    assert seeing.decide(TEXTS[0], retrieval=BAD).candidate == "large"
    bare = seeing.decide(TEXTS[0])
    assert (bare.retrieval, bare.retrieval_source) == (None, "missing")
    forced = seeing.decide(TEXTS[0], retrieval=GOOD, route="large")
    assert (forced.retrieval, forced.retrieval_source) == (None, None)
    flat = told.flat()
    assert (flat["retrieval_nodes"], flat["retrieval_top_score"]) == (3, 0.9)
    assert (flat["retrieval_context_tokens"], flat["retrieval_source"]) == (300, "given")
    assert all(isinstance(value, str | int | float) for value in flat.values())
    assert type(told).model_validate_json(told.model_dump_json()) == told


async def test_an_engine_hands_facts_to_its_router(seeing: Router) -> None:
    engine = RoutingEngine(seeing, tuple(map(Candidate, PAIR)))
    with routing_query(TEXTS[0], retrieval=GOOD) as query:
        request = RoutingRequest(query=query)
    decision = engine.decide(request)
    expected = seeing.score(TEXTS[:1], retrieval=[GOOD])[0, 0]
    assert decision.scores == (expected,)
    assert (await engine.adecide(request)).scores == decision.scores
    with pytest.raises(TypeError, match="RetrievalFacts or None"), routing_query("q", retrieval=3):  # type: ignore[arg-type]
        pass
    with pytest.raises(TypeError, match="RetrievalFacts or None"):
        seeing.decide("q", retrieval={"nodes": 3})  # type: ignore[arg-type]


class Counting:
    """A scorer of a user's own, by the number of nodes."""

    takes_retrieval = True

    def score(self, texts: Sequence[str], retrieval: Any = None) -> Any:
        facts = retrieval or [None] * len(texts)
        return np.array([[-1.0 if fact is None else fact.nodes] for fact in facts])


class Plain:
    """One that takes texts alone."""

    def score(self, texts: Sequence[str]) -> Any:
        return np.ones((len(texts), 1))


def test_scorers_of_a_users_own_are_told_what_they_take() -> None:
    told, plain = (Router(candidates=PAIR, scorer=each) for each in (Counting(), Plain()))
    assert told.score(TEXTS, retrieval=[GOOD, None, BAD])[:, 0].tolist() == [3.0, -1.0, 3.0]
    assert plain.score(TEXTS, retrieval=[GOOD, None, BAD])[:, 0].tolist() == [1.0] * 3
    assert told.decide("q", retrieval=GOOD).retrieval == GOOD
    assert plain.decide("q", retrieval=GOOD).retrieval_source is None
    assert told.calibrate(VALIDATION).curve is not None


# -- calibration, evaluation, other routers -------------------------------------------------------


@pytest.mark.parametrize("by", ["given", "predicted", "off"])
def test_a_calibration_scores_with_the_facts(seeing: Router, by: Any) -> None:
    router = seeing.calibrate(VALIDATION, by_task=by, least_per_task=20)
    expected = seeing.score(VALIDATION.queries, retrieval=VALIDATION.retrieval)
    assert router.curve is not None
    np.testing.assert_array_equal(router.curve.scores, expected)
    drop = router.decide(TEXTS[0], retrieval=GOOD, cost_advantage=0.5)
    assert drop.scores == tuple(seeing.score(TEXTS[:1], retrieval=[GOOD])[0])
    dial = router.evaluate(VALIDATION, resamples=2, cost_advantage=0.4).dial
    assert dial is not None
    assert abs(dial["quality_drop"]) < 0.1


def test_queries_without_facts_are_told_of(seeing: Router) -> None:
    bare = by_retrieval(60, split="validation", seed=3, facts=False)
    with pytest.warns(MissingFactsWarning, match="60 of 60 queries have no facts"):
        router = seeing.calibrate(bare)
    assert router.curve is not None
    np.testing.assert_array_equal(router.curve.scores, seeing.score(bare.queries))


def renamed(data: RoutingDataset, **names: str) -> RoutingDataset:
    """Give the outcomes to other models."""
    return dataset(
        *(
            one.model_copy(
                update={"outcomes": {names.get(n, n): o for n, o in one.outcomes.items()}}
            )
            for one in data
        )
    )


def test_an_added_candidate_sees_facts_too(seeing: Router) -> None:
    data = renamed(by_retrieval(200, seed=7), small="mini")
    grown = seeing.add_candidate("mini", data)
    good, bad = (grown.score(TEXTS, retrieval=[facts] * 3) for facts in (GOOD, BAD))
    assert ((good - bad)[:, 1] > 0.3).all()
    np.testing.assert_array_equal(good[:, 0], seeing.score(TEXTS, retrieval=[GOOD] * 3)[:, 0])


def test_a_transfer_report_measures_with_facts(seeing: Router) -> None:
    data = renamed(by_retrieval(160, split="x", seed=8), small="s", large="l")
    report = seeing.transfer_report(data, ["s", "l"], resamples=100)
    assert report.gain["intervals"]["router"][0] > 0.05
    assert report.gain["intervals"]["refitted"][0] > 0.03


def test_a_log_is_scored_with_its_facts(seeing: Router, tmp_path: Path) -> None:
    told = [GOOD, BAD, None]
    rows: list[dict[str, Any]] = [
        {"id": str(i), "query": text} | ({"retrieval": facts.model_dump()} if facts else {})
        for i, (text, facts) in enumerate(zip(TEXTS, told, strict=True))
    ]
    source, out = write_lines(tmp_path / "log.jsonl", rows), tmp_path / "out.jsonl"
    score_file(seeing, source, out)
    found = [json.loads(line)["scores"]["small"] for line in out.read_text().splitlines()]
    np.testing.assert_allclose(found, seeing.score(TEXTS, retrieval=told)[:, 0], rtol=1e-6)
    rows[1]["retrieval"]["nodes"] = -1
    with pytest.raises(DataError, match=r"line 2: field retrieval\.nodes"):
        score_file(seeing, write_lines(tmp_path / "bad.jsonl", rows), tmp_path / "no.jsonl")


# -- on disk --------------------------------------------------------------------------------------


def test_a_router_with_facts_round_trips(seeing: Router, tmp_path: Path) -> None:
    seeing.save_pretrained(tmp_path / "router")
    read = Router.from_pretrained(tmp_path / "router")
    told = [GOOD, BAD, None]
    assert (
        read.score(TEXTS, retrieval=told).tobytes() == seeing.score(TEXTS, retrieval=told).tobytes()
    )
    assert graph_of(read).retrieval_means == graph_of(seeing).retrieval_means
    assert "facts of what was retrieved" in (tmp_path / "router" / "README.md").read_text()


def test_int8_keeps_the_facts(seeing: Router) -> None:
    scorer = graph_of(seeing)
    small = dataclasses.replace(scorer, session=GraphSession(int8_graph(scorer.session.bytes)))
    assert sees(seeing)
    assert sees(dataclasses.replace(seeing, scorer=small))


def rewritten(router: Router, folder: Path, **changed: Any) -> Path:
    """Save a router and change its settings; `retrieval_means=None` takes them out."""
    import hashlib

    router.save_pretrained(folder)
    settings = json.loads((folder / "router.json").read_text()) | changed
    if settings["retrieval_means"] is None:
        del settings["retrieval_means"]
    content = json.dumps(settings).encode()
    (folder / "router.json").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["router.json"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_an_artifact_from_before_loads_as_it_was(blind: Router, tmp_path: Path) -> None:
    read = Router.from_pretrained(rewritten(blind, tmp_path / "old", retrieval_means=None))
    assert read.score(TEXTS).tobytes() == blind.score(TEXTS).tobytes()
    assert not read.sees_retrieval


def test_a_router_with_facts_is_told_apart(seeing: Router, tmp_path: Path) -> None:
    """Versions that know no facts compare the names of features, and refuse."""
    settings = json.loads((rewritten(seeing, tmp_path / "new") / "router.json").read_text())
    assert settings["features"] == [*FEATURE_NAMES, *RETRIEVAL_NAMES]
    for means in ([], [1.0]):
        folder = rewritten(seeing, tmp_path / f"bad{len(means)}", retrieval_means=means)
        with pytest.raises(ArtifactError, match="other query features"):
            Router.from_pretrained(folder)
