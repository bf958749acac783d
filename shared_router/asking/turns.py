"""Which candidate answered a turn, for hosts whose messages cannot say it.

Where an assistant message carries no record of its model, a later step of the same turn (a tool's
answer) is known by the turn's own text: what was said up to the user's question.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from shared_router.support.processes import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Iterable

V = TypeVar("V")
MOST_TURNS = 8192
"""Turns remembered; the ones not met for longest are forgotten first."""


class TurnMemory(Generic[V]):
    """Remembers who answers recent turns, by keyed hashes that never leave the process.

    Args:
        most: How many turns to remember.
    """

    def __init__(self, most: int = MOST_TURNS) -> None:
        self._most = most
        self._secret = secrets.token_bytes(32)
        self._lock = ForkSafeLock()
        self._answering: OrderedDict[bytes, V] = OrderedDict()

    def __reduce__(self) -> tuple[type[TurnMemory[V]], tuple[int]]:
        return TurnMemory, (self._most,)  # a copy starts afresh

    def __len__(self) -> int:
        return len(self._answering)

    def key(self, parts: Iterable[str]) -> bytes:
        """Hash a turn: what was said, in order."""
        return self.keys(parts, ())[0]

    def keys(self, parts: Iterable[str], *endings: Iterable[str]) -> tuple[bytes, ...]:
        """Hash a turn with each of several endings; what was said is hashed once."""
        whole = hashlib.blake2b(key=self._secret, digest_size=16)
        _add(whole, parts)
        return tuple(_add(whole.copy(), ending).digest() for ending in endings)

    def remember(self, keys: Iterable[bytes], answering: V) -> None:
        """Note who answers a turn."""
        with self._lock:
            for key in keys:
                self._answering[key] = answering
                self._answering.move_to_end(key)
            while len(self._answering) > self._most:
                self._answering.popitem(last=False)

    def recall(self, keys: Iterable[bytes]) -> V | None:
        """Return who answers a turn, by the first key that is known."""
        with self._lock:
            return next((self._answering[key] for key in keys if key in self._answering), None)


def _add(whole: hashlib.blake2b, parts: Iterable[str]) -> hashlib.blake2b:
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        whole.update(len(encoded).to_bytes(8, "big") + encoded)
    return whole
