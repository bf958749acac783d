"""int8 serves where it ranks as float32 does; two encoders share what is alike."""

from __future__ import annotations

import dataclasses
import gc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router import Router
from shared_router.router.card import model_card
from shared_router.serving import session as serving
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.session import GraphSession
from shared_router.training import quantisation
from shared_router.training.encoder import load_encoder
from shared_router.training.join import join_graphs
from tests.material import PAIR, known_truth

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = known_truth(60, seed=5).queries


@pytest.fixture(scope="module")
def floating(tiny_encoder: str, tiny_cache: Path) -> Router:
    """A router that serves in float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(known_truth(150), PAIR, encoder=tiny_encoder, int8=False)


def scorer_of(router: Router) -> GraphScorer:
    assert isinstance(router.scorer, GraphScorer)
    return router.scorer


def test_int8_is_kept_where_ranking_survives(fitted: Router, floating: Router) -> None:
    facts = fitted.facts["training"]["int8"]
    assert facts["kept"]
    assert facts["spearman"] >= quantisation.LEAST_SPEARMAN
    assert facts["n"] == 150
    assert fitted.version != floating.version
    np.testing.assert_allclose(fitted.score(TEXTS), floating.score(TEXTS), atol=0.05)


def test_products_of_the_encoder_are_int8_and_the_heads_float32(floating: Router) -> None:
    import onnx

    graph = onnx.load_from_string(quantisation.int8_graph(scorer_of(floating).session.bytes)).graph
    left = [node.name for node in graph.node if node.op_type == "MatMul"]
    assert any(node.op_type == "MatMulInteger" for node in graph.node)
    assert any(name.startswith("head_") for name in left)
    weights = [w for w in graph.initializer if w.data_type == onnx.TensorProto.INT8]
    most = max(int(np.abs(onnx.numpy_helper.to_array(w).astype(int)).max()) for w in weights)
    assert most <= 64  # 7 bits: no overflow on a CPU without VNNI


def test_float32_stays_where_ranking_suffers(
    floating: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "LEAST_SPEARMAN", 1.1)
    scorer, facts = quantisation.quantised(scorer_of(floating), TEXTS)
    assert scorer is floating.scorer
    assert not facts["kept"]
    assert 0.9 < facts["spearman"] <= 1


def test_float32_stays_where_there_is_too_little_to_compare(floating: Router) -> None:
    scorer, facts = quantisation.quantised(scorer_of(floating), TEXTS[:1] * 100)
    assert scorer is floating.scorer
    assert (facts["kept"], facts["spearman"], facts["n"]) == (False, None, 1)


def test_the_card_says_how_it_was_checked(fitted: Router, floating: Router) -> None:
    assert "Served in int8: on 150 training queries" in model_card(fitted)
    assert quantisation.instruction_sets()[0] in model_card(fitted)
    assert "Served in float32." in model_card(floating)


def test_calibration_scores_with_the_graph_that_serves(calibrated: Router, tmp_path: Path) -> None:
    import onnx

    calibrated.save_pretrained(tmp_path / "router")
    served = onnx.load(str(tmp_path / "router" / "graph.onnx"))
    assert any(node.op_type == "MatMulInteger" for node in served.graph.node)
    assert Router.from_pretrained(tmp_path / "router").curve is not None


# -- one graph, one session ---------------------------------------------------------------------


def test_two_encoders_that_are_alike_are_computed_once(
    in_tiny_cache: Path, tiny_encoder: str
) -> None:
    import onnx
    from onnx.compose import add_prefix

    one = onnx.load(str(load_encoder(tiny_encoder).graph))
    renamed = add_prefix(one, "other/", rename_inputs=False)
    before = len(one.graph.node), len(one.graph.initializer)
    join_graphs(one, renamed)
    assert len(one.graph.initializer) == before[1]
    assert len(one.graph.node) == before[0] + 1  # its output has a name of its own
    one.graph.output.extend(renamed.graph.output)
    tokens = load_encoder(tiny_encoder).tokens
    session = GraphSession(one.SerializeToString())
    first, second = session.run(["encoded", "other/encoded"], tokens.encode("name the city"))
    np.testing.assert_array_equal(first, second)


def test_an_encoder_with_other_weights_keeps_them(in_tiny_cache: Path, tiny_encoder: str) -> None:
    import onnx
    from onnx.compose import add_prefix

    one = onnx.load(str(load_encoder(tiny_encoder).graph))
    renamed = add_prefix(one, "other/", rename_inputs=False)
    changed = max(renamed.graph.initializer, key=lambda weight: len(weight.raw_data))
    shifted = onnx.numpy_helper.to_array(changed) + 1
    changed.CopyFrom(onnx.numpy_helper.from_array(shifted, changed.name))
    before = len(one.graph.initializer)
    join_graphs(one, renamed)
    assert len(one.graph.initializer) == before + 1


def test_routers_of_one_folder_share_a_session(fitted: Router, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "router")
    one, other = (scorer_of(Router.from_pretrained(tmp_path / "router")) for _ in range(2))
    one.score(["a"])
    other.score(["a"])
    assert one.session._session is other.session._session


def test_a_session_is_closed_with_its_last_router(floating: Router) -> None:
    import onnx

    another = onnx.load_from_string(scorer_of(floating).session.bytes)
    another.doc_string = "of no other router"
    session = GraphSession(another.SerializeToString())
    alone = dataclasses.replace(scorer_of(floating), session=session)
    before = len(serving._OPEN)
    alone.score(["a"])
    assert len(serving._OPEN) == before + 1
    del alone, session
    gc.collect()
    assert len(serving._OPEN) == before
