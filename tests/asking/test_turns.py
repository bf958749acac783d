"""Who answers a turn: remembered by keys that say nothing, and forgotten in time."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

from shared_router.asking.turns import TurnMemory


def test_a_turn_is_recalled_by_its_first_known_key() -> None:
    memory = TurnMemory()
    exact, loose = memory.key(["a", "dial"]), memory.key(["a"])
    assert memory.recall([exact, loose]) is None
    memory.remember([loose], "large")
    assert memory.recall([exact, loose]) == "large"
    memory.remember([exact], "small")
    assert memory.recall([exact, loose]) == "small"
    assert memory.recall([]) is None


def test_keys_tell_what_was_said_apart() -> None:
    memory = TurnMemory()
    keys = {memory.key(parts) for parts in (["ab"], ["a", "b"], ["b", "a"], ["", "ab"], [])}
    assert len(keys) == 5
    assert memory.key(["a"]) == memory.key(["a"])
    assert memory.key(["a\ud800"])
    assert TurnMemory().key(["a"]) != memory.key(["a"])


def test_the_longest_unmet_is_forgotten_first() -> None:
    memory = TurnMemory(most=2)
    first, second, third = (memory.key([text]) for text in "abc")
    memory.remember([first], "small")
    memory.remember([second], "small")
    memory.remember([first], "large")
    memory.remember([third], "small")
    assert len(memory) == 2
    assert memory.recall([second]) is None
    assert memory.recall([first]) == "large"


def test_a_copy_starts_afresh() -> None:
    memory = TurnMemory(most=3)
    memory.remember([memory.key(["a secret"])], "small")
    dumped = pickle.dumps(memory)
    assert b"secret" not in dumped
    copy = pickle.loads(dumped)  # noqa: S301
    assert len(copy) == 0
    assert copy.recall([memory.key(["a secret"])]) is None


def test_threads_share_it() -> None:
    memory = TurnMemory(most=50)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: memory.remember([memory.key([str(i)])], "small"), range(500)))
    assert len(memory) == 50
