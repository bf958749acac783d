"""Export: encoder, features and trained head as one ONNX graph.

Inputs: `input_ids` and `attention_mask` (int64, (1, tokens)), `features` (float32, (1, f)) and,
where they help, `reference` (float32, (d, n)) for neighbours, `terms` (int64, (1, m)) and
`term_weights` (float32, (1, m)) for words. Outputs: `score` (float32, (1, k - 1))
and `embedding` (float32, (1, d)). Where the training data name tasks, see `task_graph` too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.training.blend import Blend
from shared_router.training.graph import Graph, kernel, linear, need_onnx, strip_traces
from shared_router.training.heads import KernelHead, TaskHead
from shared_router.training.join import join_graphs
from shared_router.training.linear import LinearHead
from shared_router.training.neighbours import NEIGHBOURS
from shared_router.training.task_graph import TASK, add_task_input, add_task_shares
from shared_router.training.task_signal import no_signal
from shared_router.training.term_head import TermHead

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router.training.cross_validation import TrainedHead
    from shared_router.training.heads import NeighbourHead
    from shared_router.training.task_signal import TaskSignal


LEAST_CHANCE = 1e-6
"""Probabilities are kept this far from 0 and 1 where their logit is taken."""


def export_router_graph(encoder: Path, head: TrainedHead | Blend, n_features: int) -> bytes:
    """Append a trained head, and a fine-tuned encoder if there is one, to an encoder's graph.

    Args:
        encoder: The encoder's graph, as `load_encoder` gives it.
        head: The trained head, alone or beside a fine-tuned encoder.
        n_features: Number of query features.

    Returns:
        The serialised ONNX model.

    Raises:
        MissingExtraError: If `onnx` is not installed.
    """
    onnx = need_onnx()
    model = onnx.load(str(encoder))
    encoded = model.graph.output[0]
    graph = Graph(onnx)
    trained = head.head if isinstance(head, Blend) else head
    if isinstance(head, Blend):
        join_graphs(model, onnx.load_from_string(head.graph))
        graph("Identity", _blend(graph, head), output="score")
    else:
        graph("Identity", _score(graph, head), output="score")
    graph.nodes.insert(0, graph.rename(encoded.name, "embedding"))
    if "features" not in {value.name for value in model.graph.input}:
        model.graph.input.append(graph.floats("features", 1, n_features))
    if "terms" in trained.parts:
        whole = onnx.TensorProto.INT64
        model.graph.input.append(onnx.helper.make_tensor_value_info("terms", whole, [1, "terms"]))
        model.graph.input.append(graph.floats("term_weights", 1, "terms"))
    dimensions = encoded.type.tensor_type.shape.dim[-1].dim_value
    if "neighbours" in trained.parts:
        model.graph.input.append(graph.floats("reference", dimensions, "queries"))
    return _finished(onnx, model, graph, len(trained.offset), dimensions, trained.signal)


def export_tuned_graph(tuned: bytes) -> bytes:
    """Make a fine-tuned encoder alone a router's graph: its label is the score."""
    onnx = need_onnx()
    model = onnx.load_from_string(tuned)
    graph = Graph(onnx)
    columns, dimensions = (
        next(v for v in model.graph.output if v.name == name).type.tensor_type.shape.dim[-1]
        for name in ("tuned", "tuned_encoded")
    )
    graph.nodes += [graph.rename("tuned_encoded", "embedding"), graph.rename("tuned", "score")]
    return _finished(onnx, model, graph, columns.dim_value, dimensions.dim_value)


def _finished(
    onnx: Any,
    model: Any,
    graph: Graph,
    columns: int,
    dimensions: int,
    signal: TaskSignal | None = None,
) -> bytes:
    """Append what was collected, with inputs and outputs of tasks where there is a signal."""
    shares = None
    if signal is not None and signal.teller is not None:
        add_task_input(onnx, model, signal)
        shares = _task_shares(graph, signal.teller)
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(graph.constants)
    del model.graph.output[:]
    outputs = [graph.floats("score", 1, columns), graph.floats("embedding", 1, dimensions)]
    model.graph.output.extend(outputs)
    if signal is not None and shares is not None:
        add_task_shares(onnx, model, shares, signal)
    strip_traces(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def append_column(
    router: bytes, head: TrainedHead, labels: tuple[str, ...], position: int
) -> bytes:
    """Append a head of one column to a router's graph; all else in it stays as it is.

    Args:
        router: The router's graph, serialised.
        head: The trained head; neighbours are no part of it, nor words that the graph reads not.
        labels: Labels of the graph's `task` input; none where it has no such input.
        position: Where the new column stands among the scores.

    Returns:
        The serialised ONNX model.

    Raises:
        MissingExtraError: If `onnx` is not installed.
    """
    onnx = need_onnx()
    model = onnx.load_from_string(router)
    added = sum(node.name.endswith("scores_before") for node in model.graph.node)
    graph = Graph(onnx, f"added_{added}_")
    before = f"added_{added}_scores_before"
    scoring = next(node for node in model.graph.node if "score" in node.output)
    scoring.output[list(scoring.output).index("score")], scoring.name = before, before
    if labels:  # every label has a row of scores, to this column too
        signal = head.signal.under(labels) if head.signal else no_signal(labels, 1)
    fresh = _score(graph, replace(head, signal=signal if labels else None))
    joined = graph("Concat", before, fresh, axis=1)
    width = next(v for v in model.graph.output if v.name == "score").type.tensor_type.shape.dim[1]
    order = [*range(position), width.dim_value, *range(position, width.dim_value)]
    width.dim_value += 1
    graph("Gather", joined, graph.constant(np.array(order, dtype=np.int64)), output="score", axis=1)
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(graph.constants)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _score(graph: Graph, head: TrainedHead) -> str:
    kept = 1.0 - sum(head.weights.values())
    total = graph.constant(kept * head.offset[None, :])
    for name, part in head.parts.items():
        if isinstance(part, KernelHead):
            predicted = kernel(graph, part)
        elif isinstance(part, LinearHead):
            predicted = linear(graph, part)
        elif isinstance(part, TermHead):
            predicted = _terms(graph, part)
        elif isinstance(part, TaskHead):
            predicted = graph("MatMul", _task_shares(graph, part), graph.constant(part.means))
        else:
            predicted = _neighbours(graph, part)
        weighted = graph("Mul", predicted, graph.constant(head.weights[name]))
        total = graph("Add", total, weighted)
    if head.link is not None:
        slope, intercept = head.link
        scaled = graph("Mul", total, graph.constant(slope[None, :]))
        total = graph("Add", scaled, graph.constant(intercept[None, :]))
    if head.signal is not None:
        total = _labelled(graph, total, head.signal)
    return total if head.link is None else graph("Sigmoid", total)


def _blend(graph: Graph, blend: Blend) -> str:
    """Mix heads and the tuned encoder, then add what a label tells beyond the text.

    That is missing from both alike: each predicts from the text alone. So the mixture moves by the
    whole offset, not by the heads' share of it.
    """
    head, signal = replace(blend.head, signal=None), blend.head.signal
    heads = graph("Mul", _score(graph, head), graph.constant(1 - blend.weight))
    tuned = graph("Mul", "tuned", graph.constant(blend.weight))
    mixed = graph("Add", heads, tuned)
    if signal is None or head.link is None:
        return mixed if signal is None else _labelled(graph, mixed, signal)
    return graph("Sigmoid", _labelled(graph, _logit(graph, mixed), signal))


def _labelled(graph: Graph, value: str, signal: TaskSignal) -> str:
    return graph("Add", value, graph("MatMul", TASK, graph.constant(signal.offsets)))


def _logit(graph: Graph, probability: str) -> str:
    least, most = graph.constant(LEAST_CHANCE), graph.constant(1 - LEAST_CHANCE)
    inside = graph("Clip", probability, least, most)
    other = graph("Sub", graph.constant(1.0), inside)
    return graph("Sub", graph("Log", inside), graph("Log", other))


def _terms(graph: Graph, part: TermHead) -> str:
    along = graph.constant(np.array([1], dtype=np.int64))
    weighed = graph("Mul", "term_weights", graph.rows(part.idf, "terms"))
    length = graph("Sqrt", graph("ReduceSumSquare", weighed, along, keepdims=1))
    unit = graph("Div", weighed, graph("Max", length, graph.constant(1e-12)))
    learned = graph.rows(part.weights, "terms")
    last = graph.constant(np.array([2], dtype=np.int64))
    product = graph("Mul", learned, graph("Unsqueeze", unit, last))
    summed = graph("ReduceSum", product, along, keepdims=0)
    total = graph("Mul", summed, graph.constant(part.scale[None, :]))
    return graph("Add", total, graph.constant(part.offset[None, :]))


def _task_shares(graph: Graph, part: TaskHead) -> str:
    logits = graph("MatMul", "embedding", graph.constant(part.weights))
    shifted = graph("Add", logits, graph.constant(part.offset[None, :]))
    return graph("Softmax", shifted, axis=1)


def _neighbours(graph: Graph, part: NeighbourHead) -> str:
    similarity = graph("MatMul", "embedding", "reference")
    nearest = graph.top(similarity, min(NEIGHBOURS, len(part.targets)))
    found = graph("Gather", graph.constant(part.targets), nearest, axis=0)
    return graph("ReduceMean", found, graph.constant(np.array([1], dtype=np.int64)), keepdims=0)
