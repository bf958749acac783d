"""Join two encoders in one ONNX graph, computing once what both compute alike.

A fine-tuned encoder whose lower layers were frozen shares them with the encoder it came from: the
same weights, the same operators, the same inputs. Finding that in the graphs needs no knowledge of
the architecture.
"""

from __future__ import annotations

import hashlib
from typing import Any


def join_graphs(first: Any, second: Any) -> None:
    """Append the second model's graph to the first's, in place, and share what is alike.

    Args:
        first: An ONNX model; it keeps its inputs and outputs.
        second: Another, whose inner names differ; its inputs of the same name become the
            first's, its outputs become inner values that can be read by name.
    """
    own = {value.name for value in first.graph.input}
    first.graph.input.extend(value for value in second.graph.input if value.name not in own)
    first.graph.initializer.extend(second.graph.initializer)
    first.graph.node.extend(second.graph.node)
    kept = {value.name for value in (*first.graph.output, *second.graph.output)}
    _share(first.graph, kept)


def _share(graph: Any, kept: set[str]) -> None:
    """Drop initializers and nodes that repeat an earlier one."""
    alias: dict[str, str] = {}
    seen: dict[Any, list[str]] = {}
    constants = list(graph.initializer)
    del graph.initializer[:]
    for constant in constants:
        key = (constant.data_type, tuple(constant.dims), _content(constant))
        if key in seen:
            alias[constant.name] = seen[key][0]
        else:
            seen[key] = [constant.name]
            graph.initializer.append(constant)
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        for at, name in enumerate(node.input):
            node.input[at] = alias.get(name, name)
        key = _work(node)
        if key in seen and not kept.intersection(node.output):
            alias.update(zip(node.output, seen[key], strict=True))
        else:
            seen.setdefault(key, list(node.output))
            graph.node.append(node)


def _content(constant: Any) -> bytes:
    """Hash an initializer without its name."""
    import onnx

    return hashlib.sha256(onnx.numpy_helper.to_array(constant).tobytes()).digest()


def _work(node: Any) -> tuple[Any, ...]:
    """Describe what a node computes, of what."""
    attributes = sorted(
        attribute.SerializeToString(deterministic=True) for attribute in node.attribute
    )
    return (node.op_type, node.domain, tuple(node.input), tuple(attributes), len(node.output))
