"""A router saved over a folder in use: readers see the old one or the new one, whole."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from shared_router import Router
from shared_router.data import scratch as scratches
from shared_router.errors import ArtifactError
from shared_router.router import swap as swapping
from shared_router.router.read import read_folder
from tests.material import EASY, PAIR, known_truth
from tests.router.killing_savers import save_through_kills, saved_through_kills

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_tiny_cache")
DEAD = 999_999_999


@pytest.fixture(params=["exchanged", "in two steps"])
def system(request, monkeypatch):
    """Give a system that exchanges names at once, then one that cannot."""
    if request.param == "in two steps":
        monkeypatch.setattr(swapping, "_linux", lambda: False)
    return request.param


@pytest.fixture
def folder(calibrated, tmp_path) -> Path:
    """Return the folder of a saved router."""
    calibrated.save_pretrained(tmp_path / "router")
    return tmp_path / "router"


def names_left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_readers_beside_a_saver_see_a_router(calibrated, fitted, folder, system):
    seen, over = [], threading.Event()

    def read():
        while not over.is_set():
            seen.append(Router.from_pretrained(folder))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for i in range(30):
        (fitted if i % 2 else calibrated).save_pretrained(folder)
    over.set()
    for reader in readers:
        reader.join()
    versions = {calibrated.version, fitted.version}
    assert {router.version for router in seen} <= versions
    assert all(router.score(EASY[:1]).size for router in seen[:: len(seen) // 8 or 1])
    assert len(seen) > 4
    assert names_left(folder) == ["router"]


def test_many_savers_at_once(calibrated, fitted, tmp_path, system):
    folder = tmp_path / "new"
    savers = [
        threading.Thread(target=router.save_pretrained, args=(folder,))
        for router in (calibrated, fitted) * 4
    ]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert Router.from_pretrained(folder).version in {calibrated.version, fitted.version}
    assert names_left(folder) == ["new"]


def test_a_killed_writer_is_recovered_and_cleared(fitted, folder, tmp_path):
    """As a system without an exchange leaves it: the old router and the new one, none in place."""
    scratch = tmp_path / scratches._name(folder, DEAD)
    scratch.mkdir()
    folder.rename(scratch / "old")
    fitted.save_pretrained(scratch / "new")
    assert Router.from_pretrained(folder).curve is None
    assert names_left(folder) == ["router"]


@pytest.mark.parametrize("held", [["old"], ["new"], []])
def test_leftovers_of_dead_writers_are_cleared_and_of_living_ones_stay(
    fitted, folder, tmp_path, held
):
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead, living = (tmp_path / scratches._name(folder, pid) for pid in (DEAD, parent.pid))
    for scratch in (dead, living):
        scratch.mkdir()
        for name in held:
            (scratch / name).mkdir()
    fitted.save_pretrained(folder)
    parent.communicate(b"\n")
    assert names_left(folder) == [living.name, "router"]


def test_a_deleted_router_is_not_found_again(fitted, folder, tmp_path):
    scratch = tmp_path / scratches._name(folder, DEAD)
    fitted.save_pretrained(scratch / "new")
    (folder).rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="no such folder"):
        Router.from_pretrained(folder)


def test_a_writer_elsewhere_is_left_alone_until_it_is_long_ago(
    fitted, folder, tmp_path, monkeypatch
):
    """In another container or on another machine its number says nothing here."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(scratches, "_place", lambda: "0123abcd")
        scratch = tmp_path / scratches._name(folder, DEAD)
    (scratch / "new").mkdir(parents=True)
    fitted.save_pretrained(folder)
    assert names_left(folder) == [scratch.name, "router"]
    os.utime(scratch, (0, 0))
    fitted.save_pretrained(folder)
    assert names_left(folder) == ["router"]


def test_a_writer_elsewhere_whose_steps_another_finished_has_saved(
    calibrated, fitted, folder, tmp_path, monkeypatch
):
    scratch = tmp_path / scratches._name(folder)
    fitted.save_pretrained(scratch / "new")
    folder.rename(scratch / "old")
    monkeypatch.setattr(swapping, "is_of_the_dead", lambda _: None)
    monkeypatch.setattr(swapping, "is_left_behind", lambda _: False)
    assert swapping.found_again(folder)
    swapping.put_in_place(scratch, folder)
    assert Router.from_pretrained(folder).version == fitted.version


def test_what_another_process_of_our_number_left_is_cleared(fitted, folder, tmp_path):
    """As in a container that starts anew, whose first process is always number 1."""
    (tmp_path / scratches._name(folder)).mkdir()
    fitted.save_pretrained(folder)
    assert names_left(folder) == ["router"]


def test_hidden_folders_of_others_stay(fitted, folder, tmp_path):
    others = [".hybrid-llm-settings", scratches._name(tmp_path / "other", DEAD), ".7~0.routers"]
    for name in others:
        (tmp_path / name / "new").mkdir(parents=True)
        os.utime(tmp_path / name, (0, 0))
    fitted.save_pretrained(folder)
    assert names_left(folder) == sorted([*others, "router"])


def test_a_folder_that_is_away_when_it_is_opened_is_looked_for_again(calibrated, folder, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    scratch = tmp_path / scratches._name(folder, parent.pid)
    scratch.mkdir()
    (folder).rename(scratch / "old")
    back = threading.Timer(0.2, (scratch / "old").rename, [folder])
    back.start()
    assert set(read_folder(folder)) >= {"router.json"}
    parent.communicate(b"\n")


def test_long_names_are_saved(fitted, tmp_path):
    folder = tmp_path / ("ü" * 127)
    for _ in range(2):
        fitted.save_pretrained(folder)
    assert Router.from_pretrained(folder).version == fitted.version
    assert names_left(folder) == [folder.name]


def test_a_link_to_a_folder_stays(fitted, folder, tmp_path):
    link = tmp_path / "current"
    link.symlink_to("router")
    fitted.save_pretrained(link)
    assert link.is_symlink()
    assert Router.from_pretrained(folder).curve is None
    assert names_left(folder) == ["current", "router"]


def test_permissions_stay(fitted, folder):
    folder.chmod(0o750)
    (folder / "router.json").chmod(0o640)
    fitted.save_pretrained(folder)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / "router.json").stat().st_mode & 0o777 == 0o640


def test_what_was_loaded_outlives_its_folder(calibrated, folder, tiny_encoder, tmp_path):
    expected = calibrated.score(EASY).tobytes()
    used, unused = Router.from_pretrained(folder), Router.from_pretrained(folder)
    assert len(pickle.dumps(unused.scorer.session)) < 1_000
    used.score(EASY[:1])
    other = Router.fit(known_truth(40, seed=11), PAIR, encoder=tiny_encoder)
    other.save_pretrained(folder)
    assert used.score(EASY).tobytes() == expected
    sent = pickle.loads(pickle.dumps(unused))  # noqa: S301  our own
    for router in (copy.deepcopy(unused), sent, unused):
        router.save_pretrained(tmp_path / "again")
        assert router.score(EASY).tobytes() == expected
        assert Router.from_pretrained(tmp_path / "again").score(EASY).tobytes() == expected


FULL_DISK = """
import resource, signal, sys
from shared_router import HybridRoutingError, Router
router = Router.from_pretrained(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a full disk: an error, no signal
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
    router.save_pretrained(sys.argv[1])
except HybridRoutingError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def test_a_full_disk_leaves_the_older_router(calibrated, folder):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, folder], capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith(f"ArtifactError: {folder}: cannot be written")
    assert Router.from_pretrained(folder).version == calibrated.version
    assert names_left(folder) == ["router"]


@pytest.mark.parametrize("two_steps", [False, True])
def test_killed_savers_leave_a_router(folder, two_steps):
    save_through_kills(folder, kills=3, two_steps=two_steps)
    assert names_left(folder) == ["router"]


def test_killed_while_a_data_file_is_saved(tmp_path):
    saved_through_kills(tmp_path, kills=3)


def test_names_that_are_not_there_are_not_exchanged(tmp_path):
    (tmp_path / "one").mkdir()
    with pytest.raises(FileNotFoundError):
        swapping.exchanged(tmp_path / "one", tmp_path / "other")


def test_a_file_system_that_cannot_exchange_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(swapping, "_RENAME_EXCHANGE", 1 << 20)  # a flag that no system has
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    assert not swapping.exchanged(tmp_path / "one", tmp_path / "other")


def scratch_of(folder: Path) -> Path:
    """Make a scratch folder with a new folder in it, of one file."""
    scratch = folder.parent / "scratch"
    (scratch / "new").mkdir(parents=True)
    (scratch / "new" / "made").touch()
    return scratch


def test_a_second_step_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(swapping, "_linux", lambda: False)
    scratch, folder = scratch_of(tmp_path / "router"), tmp_path / "router"
    folder.mkdir()
    (folder / "old").touch()
    moving = type(folder).replace

    def fail(self, target):
        if self == scratch / "new":
            raise OSError(errno.ENOSPC, "no space left")
        return moving(self, target)

    monkeypatch.setattr(type(folder), "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        swapping.put_in_place(scratch, folder)
    assert [path.name for path in folder.iterdir()] == ["old"]


def test_where_others_write_all_the_time_it_is_said(tmp_path, monkeypatch):
    scratch, folder = scratch_of(tmp_path / "router"), tmp_path / "router"

    def fail(self, target):
        raise OSError(errno.ENOTEMPTY, "another was quicker")

    monkeypatch.setattr(type(folder), "replace", fail)
    with pytest.raises(OSError, match="others write there all the time"):
        swapping.put_in_place(scratch, folder)
