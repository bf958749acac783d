"""A paid judge over files, and a process that judges with it, to be killed or starved of disk."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from shared_router.bulk.judge import judge_file
from shared_router.data.answers import Judgement
from shared_router.errors import HybridRoutingError
from shared_router.records import Usage
from tests.bulk.conftest import row
from tests.material import write_lines

if TYPE_CHECKING:
    from collections.abc import Callable

CONCURRENCY, USD = 4, 0.5


class Paid:
    """Is asked, notes each question in a file before it answers, and is paid."""

    name, needs_answer = "paid", False

    def __init__(self, notes: Path, fail: Callable[[int], Exception | None] | None = None) -> None:
        self._notes, self._fail = notes, fail or (lambda times: None)

    async def score(self, query: str, response: str, answer: str | None) -> Judgement:
        with self._notes.open("a") as lines:
            lines.write(f"{query} | {response}\n")
        await asyncio.sleep(0.005)
        if error := self._fail(len(self._notes.read_text().splitlines())):
            raise error
        return Judgement(quality_of(query, response), Usage(cost_usd=USD))


def quality_of(query: str, response: str) -> float:
    return (len(query) * 31 + sum(map(ord, response))) % 97 / 97


def asked_in(notes: Path) -> Counter[str]:
    return Counter(notes.read_text().splitlines() if notes.exists() else [])


def material(folder: Path, count: int) -> Path:
    """Write records with three responses each, no two alike."""
    rows = [row(i) for i in range(count)]
    for i, each in enumerate(rows):
        each["outcomes"]["small"]["response"] = [f"small {i}, first", f"small {i}, second"]
    return write_lines(folder / "data.jsonl", rows)


def main(data: str, out: str, notes: str, file_limit: str = "") -> None:
    if file_limit:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a full disk: an error, no signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_limit), int(file_limit)))
    try:
        judge_file(data, out, lambda: Paid(Path(notes)), concurrency=CONCURRENCY)
    except HybridRoutingError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
