"""Run two checkouts side by side on one machine, and list every difference between them.

    python -m tests.side_by_side OLD [NEW]

OLD and NEW are checkouts; NEW is this one where it is left out. Each side fits, calibrates, saves,
loads, pickles, scores and decides by itself, through public names alone, on the same data; each
reads what the other has saved, too. Exit status 0 where nothing differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.material import by_retrieval, by_task, known_truth, save_tiny_bert, three_models

HERE = Path(__file__).parent
DATA = {"plain": known_truth, "tasks": by_task, "retrieval": by_retrieval, "three": three_models}
SIDES = ("old", "new")
SHOWN, WIDE = 40, 120
"""Differences that are printed, and characters of a side; all are counted."""


def main() -> int:
    """Compare two checkouts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=HERE.parent.parent)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        _material(work)
        checkouts = dict(zip(SIDES, (asked.old.resolve(), asked.new.resolve()), strict=True))
        for side, checkout in checkouts.items():
            _probe(checkout, work, "make", side)
        for side, whose in itertools.product(SIDES, SIDES):
            _probe(checkouts[side], work, "read", side, whose)
        return _compared(work)


def _material(work: Path) -> None:
    """Write what both sides learn from."""
    save_tiny_bert(work / "encoder")
    for name, make in DATA.items():
        make(240, seed=1).save(work / f"{name}-train.jsonl")
        make(240, split="validation", seed=2).save(work / f"{name}-validation.jsonl")


def _probe(checkout: Path, work: Path, *asked: str) -> None:
    """Run one side's part in a process of its own."""
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "HYBRID_LLM_CACHE": str(work / f"cache-{asked[1]}"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    command = [sys.executable, str(HERE / "probe.py"), str(work), *asked]
    subprocess.run(command, check=True, cwd=work, env=environment)


def _compared(work: Path) -> int:
    """Compare what the two sides found, section by section.

    Returns:
        1 where anything differs.
    """
    counted: dict[str, int] = {}
    differences: list[str] = []
    for part in ("makes", "reads-old", "reads-new"):
        old, new = (_found(work, f"{side}-{part}") for side in SIDES)
        for section in {**old, **new}:
            one, other = old.get(section, {}), new.get(section, {})
            counted[section] = counted.get(section, 0) + len(one)
            differences += _differing(section, one, other)
    for section, n in counted.items():
        print(f"{section}: {n} compared")
    print("\n".join([*differences[:SHOWN], f"{len(differences)} differences"]))
    return int(bool(differences))


def _found(work: Path, name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((work / f"{name}.json").read_text())
    return found


def _differing(section: str, one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [
        f"{section} | {key} | {told}"
        for key in {**one, **other}
        for told in _differences(one.get(key), other.get(key))
    ]


def _differences(one: Any, other: Any) -> list[str]:
    """Say what differs, field by field where both sides have fields."""
    if one == other:
        return []
    if isinstance(one, dict) and isinstance(other, dict):
        fields = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        one, other = ({key: side.get(key) for key in fields} for side in (one, other))
    return [f"{json.dumps(one)[:WIDE]} | {json.dumps(other)[:WIDE]}"]


if __name__ == "__main__":
    sys.exit(main())
