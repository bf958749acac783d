"""One ONNX Runtime session per model and process, opened when first needed."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from shared_router.errors import ArtifactError
from shared_router.support.processes import cached_property, opening

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_OPEN: WeakValueDictionary[tuple[str, int], Any] = WeakValueDictionary()
"""Sessions by the SHA-256 of their model and process: routers of one graph share one."""


class GraphSession:
    """A lazily opened, thread-safe ONNX Runtime session that survives a fork.

    In one process, sessions of the same model share its memory.

    Args:
        source: Path of the model, or its bytes.
        sha256: What the file must hash to, now and whenever it is opened: it may be replaced by
            another router's before the first query comes.
        held: What was read of the file, kept until the session is open.
    """

    def __init__(
        self, source: Path | bytes, sha256: str | None = None, held: bytes | None = None
    ) -> None:
        self._source = source
        self._held = held
        self._expected = sha256
        self._session: Any = None
        self._process = -1

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is held where the file still has it: pickles stay small."""
        there = self._held is None or _content(self._source, self._expected) is not None
        held = None if there else self._held
        return {"source": self._source, "sha256": self._expected, "held": held}

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphSession:
        """Share it: nothing of it changes, and a copy would read the file anew."""
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> list[NDArray[np.float32]]:
        """Run the graph."""
        return list(self._open().run(outputs, feeds))

    @property
    def bytes(self) -> bytes:
        """The serialised model.

        Raises:
            ArtifactError: If its file is gone or is not the expected one any more.
        """
        if isinstance(self._source, bytes):
            return self._source
        if (held := self._held) is not None:
            return held
        if (found := _content(self._source, self._expected)) is None:
            raise ArtifactError(f"{self._source}: replaced since it was loaded; load it again.")
        return found

    def release(self) -> None:
        """Hold no more what a file has: the session is open."""
        if _content(self._source, self._expected) is not None:
            self._held = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the serialised model."""
        return self._expected or hashlib.sha256(self.bytes).hexdigest()

    def _open(self) -> Any:
        if self._session is None or self._process != os.getpid():
            with opening():
                if self._session is None or self._process != os.getpid():
                    self._session = _shared_session(self)
                    self._process = os.getpid()
        return self._session


def _content(source: Path | bytes, sha256: str | None) -> bytes | None:
    """Read a model; `None` where its file is not the expected one any more."""
    if isinstance(source, bytes):
        return source
    try:
        found = source.read_bytes()
    except OSError:
        return None
    return found if sha256 in (None, hashlib.sha256(found).hexdigest()) else None


def _shared_session(wanted: GraphSession) -> Any:
    """Take the process's session of a model, or open it; a model is read and checked each time."""
    model = wanted.bytes
    key = (hashlib.sha256(model).hexdigest(), os.getpid())
    session = _OPEN.get(key)
    if session is None:
        session = _OPEN[key] = _new_session(model)
    wanted.release()
    return session


def _new_session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
