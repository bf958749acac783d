"""An artifact is a folder of ONNX, safetensors and JSON, with checksums; no pickle.

It is written beside its target and moved into place, so that a reader never sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import from_json

from shared_router.data.output import keep_owner, sync, sync_folder
from shared_router.data.scratch import free_names
from shared_router.data.targets import refuse_unless
from shared_router.errors import ArtifactError
from shared_router.router.read import (
    BUNDLED,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    MOST_READS,
    SETTINGS,
    identity,
)
from shared_router.router.swap import NEW, found_again, put_in_place, scratch_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


def write_folder(
    folder: Path, files: Mapping[str, bytes], about_to: Callable[[], None] | None = None
) -> None:
    """Write an artifact, replacing an older one of ours only; a link to a folder stays.

    Args:
        folder: The target.
        files: Contents by name.
        about_to: Checks the target right before it is replaced. Where it refuses with an
            `ArtifactError`, the artifact is kept beside it, under a name that is free.

    Raises:
        ArtifactError: If the target holds something else, or cannot be written.
    """
    if about_to is None:
        check_target(folder)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "sha256": checksums}
    whole = {**files, MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode()}
    try:
        target = Path(os.path.realpath(folder))
        with scratch_beside(target) as scratch:
            fresh = scratch / NEW
            fresh.mkdir()
            for name, content in whole.items():
                (fresh / name).write_bytes(content)
                sync(fresh / name)
            sync_folder(fresh)
            _check_once_more(scratch, target, about_to)
            for old in (target, *(target / name for name in whole)):
                with suppress(FileNotFoundError):  # none, or taken away by another writer
                    keep_owner(old, fresh / old.relative_to(target))
            put_in_place(scratch, target)
    except (OSError, ValueError) as error:  # no name of a folder, where it is no OSError
        raise ArtifactError(f"{folder}: cannot be written ({error}).") from error


def _check_once_more(scratch: Path, target: Path, about_to: Callable[[], None] | None) -> None:
    """Check what may have come to stand there meanwhile; what was made is kept all the same."""
    try:
        (about_to or partial(check_target, target))()
    except ArtifactError as refused:
        kept = _kept(scratch, target)
        raise ArtifactError(f"{refused} What was made is in {kept}.") from refused


def _kept(scratch: Path, target: Path) -> Path:
    for free in free_names(target):
        with suppress(FileExistsError):
            free.mkdir()
            put_in_place(scratch, free)
            return free
    raise AssertionError


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
        if _is_no_folder(folder):
            raise ArtifactError(f"{folder}: a file; choose a new or an empty folder.")
        foreign = _foreign(folder)
    except OSError as error:  # such as a name that is too long
        raise ArtifactError(f"{folder}: cannot be written ({error.strerror}).") from error
    if foreign:
        raise ArtifactError(
            f"{folder}: holds files that are no router ({min(foreign)}), and would be deleted; "
            "choose a new or an empty folder."
        )


def check_new_target(folder: Path, sources: Sequence[Path] = (), *, force: bool) -> None:
    """Check that an artifact may be written here, and that no router stands here.

    Args:
        folder: The target.
        sources: Routers that are read, none of which may be it, whatever is told.
        force: Whether a router that stands here may be replaced.

    Raises:
        ArtifactError: If not.
    """
    check_target(folder)
    found_again(folder)  # where a killed writer left none under its name
    if _is_empty(folder):
        return
    if any(source.is_dir() and folder.samefile(source) for source in sources):
        raise ArtifactError(f"{folder}: is the router that is read; give another folder.")
    refuse_unless(force, folder, _described(folder), ArtifactError)


def check_same(folder: Path, seen: bytes | None, *, force: bool) -> None:
    """Check that the router that is to be replaced is still the one that was read.

    Args:
        folder: The target.
        seen: What `manifest_of` it was.
        force: Whether another may be replaced.

    Raises:
        ArtifactError: If it is another, or something else stands there.
    """
    found_again(folder)
    check_target(folder)
    if manifest_of(folder) not in (None, seen):
        refuse_unless(force, folder, "another router than the one that was read", ArtifactError)


def manifest_of(folder: Path) -> bytes | None:
    """Read what tells a folder's router from any other; `None` where there is none."""
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError:
        return None


def _is_no_folder(path: Path) -> bool:
    """Tell whether something else stands there; looked at once, since others may be at it."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except FileNotFoundError:
        return True


def _described(folder: Path) -> str:
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        calibration = settings["calibration"]
        about = f"calibrated on {calibration['n']} queries" if calibration else "not calibrated"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "a router"
    return f"a router {about}"


def _foreign(folder: Path) -> set[str]:
    """Name what is no router's; where another router takes its place meanwhile, look again."""
    foreign: set[str] = set()
    for _ in range(MOST_READS):
        before = identity(folder)
        try:
            held = {path.name for path in folder.iterdir()} if folder.exists() else set()
        except FileNotFoundError:  # away, between two names
            continue
        foreign = held - _own_files(folder) if held else held
        if not foreign or identity(folder) == before:
            break
    return foreign


def _own_files(folder: Path) -> set[str]:
    """Name the files of the router in a folder; another program's manifest names none."""
    try:
        manifest = from_json((folder / MANIFEST).read_bytes())
        ours = manifest["format"] == FORMAT
        return {MANIFEST, *manifest["sha256"]} if ours else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def arrays_to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialise arrays as safetensors."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
