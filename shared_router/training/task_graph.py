"""Tasks in a router's graph: an input that may be left out, and the tasks told by the text.

`task` is float32 of shape (t, labels): one row per label to score under, a row of zeros being no
label. Left out, it is one row of zeros. Each row gives a row of `score`, while the encoder runs
once for all. `task_shares` is float32 of shape (1, told).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from shared_router.training.task_signal import TaskSignal

TASK, SHARES, ROWS = "task", "task_shares", "labels"


def add_task_input(onnx: Any, model: Any, signal: TaskSignal) -> None:
    """Give a graph the input `task`, with a default of no label."""
    labels = len(signal.names.labels)
    described = onnx.helper.make_tensor_value_info(TASK, onnx.TensorProto.FLOAT, [ROWS, labels])
    model.graph.input.append(described)
    # An input that is an initializer too has that as its default.
    nothing = np.zeros((1, labels), dtype=np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(nothing, TASK))


def add_task_shares(onnx: Any, model: Any, shares: str, signal: TaskSignal) -> None:
    """Make the shares of told tasks an output, and let scores have a row per label."""
    model.graph.node.append(onnx.helper.make_node("Identity", [shares], [SHARES], name=SHARES))
    floats, told = onnx.TensorProto.FLOAT, len(signal.names.told)
    score = next(value for value in model.graph.output if value.name == "score")
    score.type.tensor_type.shape.dim[0].dim_param = ROWS
    model.graph.output.append(onnx.helper.make_tensor_value_info(SHARES, floats, [1, told]))
