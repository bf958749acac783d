"""Building an ONNX graph node by node, and the heads that more than one graph has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.errors import MissingExtraError
from shared_router.training.heads import FEATURE_SCALE, KERNEL_GAMMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.training.heads import KernelHead, Standardiser
    from shared_router.training.linear import LinearHead


class Graph:
    """Collects nodes and constants; every method returns the name of its result."""

    def __init__(self, onnx: Any, prefix: str = "") -> None:
        self._onnx = onnx
        self._prefix = prefix  # so that what is added to a graph twice never clashes
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: NDArray[Any] | float) -> str:
        """Add a constant: float32, unless it is int64 or float16."""
        name = f"{self._prefix}constant_{len(self.constants)}"
        array = np.asarray(value)
        if array.dtype not in (np.int64, np.float16):
            array = array.astype(np.float32)
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def __call__(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of one output."""
        name = output or f"{self._prefix}head_{len(self.nodes)}"
        self.nodes.append(
            self._onnx.helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        )
        return name

    def rename(self, value: str, name: str) -> Any:
        """A node that gives a value another name."""
        return self._onnx.helper.make_node("Identity", [value], [name], name=name)

    def floats(self, name: str, *shape: int | str) -> Any:
        """Describe a float32 input or output."""
        floats = self._onnx.TensorProto.FLOAT
        return self._onnx.helper.make_tensor_value_info(name, floats, list(shape))

    def rows(self, table: NDArray[np.float16], indices: str) -> str:
        """Take rows of a table that is kept in half precision."""
        taken = self("Gather", self.constant(table), indices, axis=0)
        return self("Cast", taken, to=self._onnx.TensorProto.FLOAT)

    def top(self, values: str, k: int) -> str:
        """Indices of the k greatest values along the last axis."""
        names = [f"{self._prefix}top_{what}_{len(self.nodes)}" for what in ("values", "indices")]
        count = self.constant(np.array([k], dtype=np.int64))
        self.nodes.append(self._onnx.helper.make_node("TopK", [values, count], names))
        return names[1]


def need_onnx() -> Any:
    """Import onnx.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            "Exporting a router needs onnx: pip install 'hybrid-llm[train]'."
        ) from error
    return onnx


def strip_traces(model: Any) -> None:
    """Remove call stacks that torch's exporter notes at each node: they hold local paths."""
    graph = model.graph
    functions = list(model.functions)
    noted = [model, graph, *graph.node, *graph.initializer, *graph.value_info]
    noted += [*graph.input, *graph.output, *functions, *(n for f in functions for n in f.node)]
    for part in noted:
        part.doc_string = ""
        del part.metadata_props[:]


def joined_inputs(graph: Graph, standardiser: Standardiser, embedding: str, features: str) -> str:
    """Join an embedding and scaled features, as `Standardiser.join` does."""
    centred = graph("Sub", features, graph.constant(standardiser.mean[None, :]))
    scaled = graph("Mul", centred, graph.constant(standardiser.scale[None, :]))
    limit = 5 * FEATURE_SCALE
    cut = graph("Clip", scaled, graph.constant(-limit), graph.constant(limit))
    return graph("Concat", embedding, cut, axis=1)


def linear(
    graph: Graph, part: LinearHead, embedding: str = "embedding", features: str = "features"
) -> str:
    """Compute what a linear head predicts."""
    product = graph(
        "MatMul",
        joined_inputs(graph, part.standardiser, embedding, features),
        graph.constant(part.weights),
    )
    return graph("Add", product, graph.constant(part.offset[None, :]))


def kernel(
    graph: Graph, part: KernelHead, embedding: str = "embedding", features: str = "features"
) -> str:
    """Compute what a kernel head predicts."""
    joined = joined_inputs(graph, part.standardiser, embedding, features)
    return rbf_sum(graph, joined, part.landmarks, part.weights, part.offset, KERNEL_GAMMA)


def rbf_sum(
    graph: Graph,
    rows: str,
    landmarks: NDArray[np.floating],
    weights: NDArray[np.floating],
    offset: NDArray[np.floating],
    gamma: float,
) -> str:
    """Compute a weighted sum of Gaussian kernels around landmarks."""
    own = graph("ReduceSumSquare", rows, graph.constant(np.array([1], dtype=np.int64)))
    product = graph("MatMul", rows, graph.constant(-2.0 * landmarks.T))
    norms = graph.constant((landmarks**2).sum(axis=1)[None, :])
    distance = graph("Add", graph("Add", product, norms), own)
    similarity = graph("Exp", graph("Mul", distance, graph.constant(-gamma / 2)))
    weighted = graph("MatMul", similarity, graph.constant(weights))
    return graph("Add", weighted, graph.constant(offset[None, :]))
