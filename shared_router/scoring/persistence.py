"""An artifact is a folder of ONNX, safetensors and JSON, with checksums; no pickle.

It is written beside its target and moved into place, so that a reader never sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import from_json

from shared_router.errors import ArtifactError
from shared_router.names import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT = "hybrid-llm-router"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
BUNDLED = "bundled"
"""The name of the router that ships with the package."""
LONGEST_FILE_NAME = 255
_SHA256 = re.compile(r"[0-9a-f]{64}")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write an artifact, replacing an older one of ours only.

    Args:
        folder: The target.
        files: Contents by name.

    Raises:
        ArtifactError: If the target holds something else, or cannot be written.
    """
    check_target(folder)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "sha256": checksums}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".hybrid-llm-") as scratch:
            fresh = Path(scratch) / "new"
            fresh.mkdir()
            for name, content in files.items():
                (fresh / name).write_bytes(content)
            (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
            if folder.exists():
                folder.replace(Path(scratch) / "old")
            fresh.replace(folder)
    except (OSError, ValueError) as error:  # no name of a folder, where it is no OSError
        raise ArtifactError(f"{folder}: cannot be written ({error}).") from error


def check_target(folder: Path) -> None:
    """Check that an artifact may be written here: nothing, an empty folder or an older one of ours.

    Raises:
        ArtifactError: If not.
    """
    if str(folder) == BUNDLED:
        raise ArtifactError(
            f"{BUNDLED!r} names the router that ships with the package, which would be read in "
            "place of this one; choose another name."
        )
    try:
        if folder.exists() and not folder.is_dir():
            raise ArtifactError(f"{folder}: a file; choose a new or an empty folder.")
        held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:  # such as a name that is too long
        raise ArtifactError(f"{folder}: cannot be written ({error.strerror}).") from error
    foreign = held - _own_files(folder) if held else held
    if foreign:
        raise ArtifactError(
            f"{folder}: holds files that are no router ({min(foreign)}), and would be deleted; "
            "choose a new or an empty folder."
        )


def _own_files(folder: Path) -> set[str]:
    """Name the files of the router in a folder; another program's manifest names none."""
    try:
        manifest = from_json((folder / MANIFEST).read_bytes())
        ours = manifest["format"] == FORMAT
        return {MANIFEST, *manifest["sha256"]} if ours else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def read_folder(folder: Path) -> dict[str, Path]:
    """Check an artifact and return its files by name.

    Raises:
        ArtifactError: If the folder is missing, foreign, of a newer format, truncated or
            corrupt.
    """
    manifest = _manifest(folder)
    files = {}
    for name, expected in manifest["sha256"].items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{folder}: {name!r} is missing; copy the whole folder again.")
        seen = file_sha256(path)
        if seen != expected:
            raise ArtifactError(
                f"{path}: corrupt or changed (SHA-256 {seen[:12]}…, expected {expected[:12]}…); "
                "copy the folder again or fit the router anew."
            )
        files[name] = path
    return files


def file_sha256(path: Path) -> str:
    """Hash a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder}: no router here (no {MANIFEST}).")
    try:
        manifest = from_json(path.read_bytes())
        version = manifest["format_version"]
        known = manifest["format"] == FORMAT and isinstance(manifest["sha256"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
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


def arrays_to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialise arrays as safetensors."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def arrays_from_file(path: Path) -> dict[str, NDArray[Any]]:
    """Read arrays from a safetensors file.

    Raises:
        ArtifactError: If it is none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a safetensors file ({error}).") from error
