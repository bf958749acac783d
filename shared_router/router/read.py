"""Reading an artifact whole, while others may write it: what is used is what was checked."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic_core import from_json

from shared_router.errors import ArtifactError
from shared_router.router.swap import found_again
from shared_router.support.names import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "hybrid-llm-router"
FORMAT_VERSION = 1
MANIFEST, SETTINGS = "manifest.json", "router.json"
GRAPH, TOKENIZER = "graph.onnx", "tokenizer.json"
CALIBRATION, TRAIN_MEMORY, CARD = "calibration.safetensors", "reference.safetensors", "README.md"
OUT_OF_FOLD = "out_of_fold.safetensors"
ANSWER_GRAPH, PAIRS = "answer.onnx", "answers.safetensors"
"""The graph that scores answers, and what the training queries' answers scored out of fold."""
LOOKS = "looks "
"""What stands before the names of the arrays of the line with second looks."""
BUNDLED = "bundled"
"""The name of the router that ships with the package."""
LONGEST_FILE_NAME = 255
_SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_READS = 50
"""How often a folder is read that is replaced while it is read."""
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""A pipe is opened without waiting for someone to write to it."""


@dataclass(frozen=True)
class FileRead:
    """A file of an artifact as it was read: what is used is what was checked."""

    path: Path
    content: bytes = field(repr=False)
    sha256: str

    def __str__(self) -> str:
        return str(self.path)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return its text."""
        return self.content.decode(encoding)


def read_folder(folder: Path) -> dict[str, FileRead]:
    """Read and check an artifact whole, and return its files by name.

    Where another takes its place meanwhile, that one is read.

    Raises:
        ArtifactError: If the folder is missing, foreign, of a newer format, truncated or
            corrupt.
    """
    for _ in range(MOST_READS):
        with ExitStack() as stack:
            opened = _Opened(folder, stack)
            try:
                return opened.files()
            except ArtifactError:
                if not opened.is_replaced():
                    raise
    raise ArtifactError(f"{folder}: was replaced {MOST_READS} times while it was read; try again.")


class _Opened:
    """A folder, held by what it is and not by its name, where the system can."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._held: int | None = None
        self._id = identity(folder)
        if os.open in os.supports_dir_fd:
            with suppress(OSError):
                self._held = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, self._held)
                self._id = identity(self._held)

    def is_replaced(self) -> bool:
        """Tell whether another folder has its name by now, or has it again."""
        try:
            there = found_again(self._folder)
        except OSError:
            return False
        return there and (self._id is None or identity(self._folder) != self._id)

    def files(self) -> dict[str, FileRead]:
        """Read everything."""
        file = self._open(MANIFEST)
        if file is None:
            raise ArtifactError(f"{self._folder}: no router here (no {MANIFEST}).")
        expected = _manifest(self._folder, file.read())["sha256"]
        # All are opened before the first is read: what is open cannot be taken away.
        files = {name: self._open(name) for name in expected}
        return {name: self._checked(name, file, expected[name]) for name, file in files.items()}

    def _open(self, name: str) -> IO[bytes] | None:
        """Open a regular file of the folder; `None` where there is none of that name."""
        path = self._folder / name
        try:
            held = self._held
            opened = os.open(path, FLAGS) if held is None else os.open(name, FLAGS, dir_fd=held)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except PermissionError as error:
            raise ArtifactError(f"{path}: cannot be read; give permission.") from error
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error.strerror}).") from error
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            return None
        return self._stack.enter_context(os.fdopen(opened, "rb"))

    def _checked(self, name: str, file: IO[bytes] | None, expected: str) -> FileRead:
        if file is None:
            raise ArtifactError(
                f"{self._folder}: {name!r} is missing; copy the whole folder again."
            )
        path = self._folder / name
        try:
            content = file.read()
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error.strerror}).") from error
        seen = hashlib.sha256(content).hexdigest()
        if seen != expected:
            raise ArtifactError(
                f"{path}: corrupt or changed (SHA-256 {seen[:12]}…, expected {str(expected)[:12]}…)"
                "; copy the folder again or fit the router anew."
            )
        return FileRead(path, content, seen)


def identity(folder: Path | int) -> tuple[int, int] | None:
    """Tell one folder from another by what it is, not by its name; `None` where it is away."""
    try:
        found = os.stat(folder)  # noqa: PTH116  or a descriptor
    except (OSError, ValueError):  # no name of a folder, where it is no OSError
        return None
    return found.st_dev, found.st_ino


def _manifest(folder: Path, content: bytes) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = from_json(content)
        version = manifest["format_version"]
        known = manifest["format"] == FORMAT and isinstance(manifest["sha256"], dict)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: corrupt, not a router's manifest.") from error
    if not known or type(version) is not int or version < 1:
        raise ArtifactError(f"{path}: not a router of hybrid-llm.")
    if version > FORMAT_VERSION:
        raise ArtifactError(
            f"{folder}: format version {version}, newer than {FORMAT_VERSION}, which this "
            "hybrid-llm reads; upgrade it (pip install -U hybrid-llm)."
        )
    for name, digest in manifest["sha256"].items():
        _check_entry(path, name, digest)
    return dict(manifest)


def _check_entry(path: Path, name: str, digest: object) -> None:
    plain = Path(name).name == name and len(name.encode()) <= LONGEST_FILE_NAME and "\0" not in name
    if not plain:
        raise ArtifactError(
            f"{path}: a router's files stand in its folder, under names of at most "
            f"{LONGEST_FILE_NAME} bytes; got {shown(name)}."
        )
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ArtifactError(f"{path}: the SHA-256 of {name!r} is hexadecimal; got {shown(digest)}.")


def arrays_from_file(file: FileRead) -> dict[str, NDArray[Any]]:
    """Read arrays from a safetensors file.

    Raises:
        ArtifactError: If it is none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(file.content))
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{file}: not a safetensors file ({error}).") from error
