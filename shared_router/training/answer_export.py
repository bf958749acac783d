"""Export: encoder, numbers and trained heads as the graph that scores answers.

Inputs and output are those of `serving.answers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.training.answer_heads import HALF, NUMBERS_CUT, BeforeHead, NumbersHead
from shared_router.training.graph import Graph, kernel, linear, need_onnx, rbf_sum, strip_traces
from shared_router.training.heads import KernelHead

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shared_router.training.answer_heads import AnswerHead, TrainedAnswers


def export_answer_graph(
    encoder: Path, heads: Sequence[TrainedAnswers], n_numbers: int, dimensions: int
) -> bytes:
    """Append the heads of every candidate's answers to an encoder's graph.

    Args:
        encoder: The encoder's graph, as `load_encoder` gives it.
        heads: One per candidate but the reference.
        n_numbers: Numbers of an answer.
        dimensions: Of the query's embedding, as the router's first graph gives it.

    Returns:
        The serialised ONNX model.

    Raises:
        MissingExtraError: If `onnx` is not installed.
    """
    onnx = need_onnx()
    model = onnx.load(str(encoder))
    encoded = model.graph.output[0]
    graph = Graph(onnx)
    wanted = {name for head in heads for name in head.parts}
    joined = _joined(graph) if wanted & {"words", "linear"} else ""
    likeness = _likeness(graph)
    columns = [_column(graph, head, at, joined, likeness) for at, head in enumerate(heads)]
    graph("Concat", *columns, output="score", axis=1)
    graph.nodes.insert(0, graph.rename(encoded.name, "embedding"))
    inputs = (("query", dimensions), ("before", len(heads)), ("numbers", n_numbers))
    model.graph.input.extend(graph.floats(name, 1, width) for name, width in inputs)
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(graph.constants)
    del model.graph.output[:]
    model.graph.output.append(graph.floats("score", 1, len(heads)))
    strip_traces(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _joined(graph: Graph) -> str:
    both = graph("Concat", "query", "embedding", axis=1)
    return graph("Mul", both, graph.constant(float(HALF)))


def _likeness(graph: Graph) -> str:
    along = graph.constant(np.array([1], dtype=np.int64))
    return graph("ReduceSum", graph("Mul", "query", "embedding"), along, keepdims=1)


def _column(graph: Graph, head: TrainedAnswers, at: int, joined: str, likeness: str) -> str:
    """Compute the score of one candidate's answer, shape (1, 1)."""
    own = graph.constant(np.array([at], dtype=np.int64))
    before = graph("Gather", "before", own, axis=1)
    features = graph("Concat", "numbers", likeness, before, axis=1)
    kept = 1.0 - sum(head.weights.values())
    total = graph.constant(np.array([[kept * head.offset]]))
    for name, part in head.parts.items():
        predicted = _predicted(graph, part, joined, features, before)
        total = graph("Add", total, graph("Mul", predicted, graph.constant(head.weights[name])))
    return total


def _predicted(graph: Graph, part: AnswerHead, joined: str, features: str, before: str) -> Any:
    if isinstance(part, BeforeHead):
        return before
    if isinstance(part, NumbersHead):
        return _numbers(graph, part, features)
    if isinstance(part, KernelHead):
        return kernel(graph, part, joined, features)
    return linear(graph, part, joined, features)


def _numbers(graph: Graph, part: NumbersHead, features: str) -> str:
    centred = graph("Sub", features, graph.constant(part.mean[None, :]))
    scaled = graph("Mul", centred, graph.constant(part.scale[None, :]))
    cut = graph("Clip", scaled, graph.constant(-NUMBERS_CUT), graph.constant(NUMBERS_CUT))
    return rbf_sum(graph, cut, part.landmarks, part.weights, part.offset, part.gamma)
