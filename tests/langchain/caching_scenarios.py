"""A chat and an agent over cached models; run as a script, it prints how often providers are asked.

python -m tests.langchain.caching_scenarios CACHE.sqlite
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

from langchain.agents import create_agent
from langchain_core.caches import BaseCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage, messages_from_dict, messages_to_dict
from langchain_core.outputs import ChatGeneration
from langchain_core.tools import tool

from tests.langchain.fakes import FakeChat, hybrid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class SQLiteCache(BaseCache):
    """Keeps answers in a file, as a cache that processes share does."""

    def __init__(self, path: str | Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS kept (prompt, llm, answer)")

    def lookup(self, prompt: str, llm_string: str) -> Any:
        """Return the answers kept for a prompt and a model."""
        found = self._db.execute(
            "SELECT answer FROM kept WHERE prompt = ? AND llm = ?", (prompt, llm_string)
        ).fetchone()
        kept = found and messages_from_dict(json.loads(found[0]))
        return kept and [ChatGeneration(message=message) for message in kept]

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        """Keep answers."""
        answer = json.dumps(messages_to_dict([each.message for each in return_val]))
        self._db.execute("INSERT INTO kept VALUES (?, ?, ?)", (prompt, llm_string, answer))

    def clear(self, **kwargs: Any) -> None:
        """Forget all answers."""
        self._db.execute("DELETE FROM kept")


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sun in {city}"


def invoke(model: Any, value: Any) -> Any:
    """Call a model or an agent."""
    return model.invoke(value)


def ainvoke(model: Any, value: Any) -> Any:
    """Call a model or an agent asynchronously."""
    return asyncio.run(model.ainvoke(value))


def stream(model: Any, value: Any) -> Any:
    """Stream a model to its whole message, or an agent to its last state."""
    chunks = list(model.stream(value))
    return chunks[-1] if isinstance(chunks[-1], dict) else sum(chunks[1:], chunks[0])


def chat(model: Any, way: Callable[[Any, Any], Any]) -> None:
    """Talk for three turns, the second of which goes to the other model."""
    history: list[Any] = []
    for text in ("Hello?", "Prove it", "Who wrote Hamlet?"):
        history.append(HumanMessage(text))
        history.append(way(model, history))


def agent(model: Any, way: Callable[[Any, Any], Any]) -> None:
    """Let an agent call a tool, and then answer."""
    asked = {"messages": [HumanMessage("How is the weather in 'Rome'?")]}
    way(create_agent(model, [weather]), asked)


def score(text: str) -> float:
    """Send what is to be proved to the large model."""
    return -1.0 if "Prove" in text else 1.0


def plain_calls(task: Any, way: Any, runs: int = 5) -> list[int]:
    """Count the calls of a plain model after each run."""
    model = FakeChat(model="small")
    return [(task(model, way), len(model.requests))[1] for _ in range(runs)]


def hybrid_calls(task: Any, way: Any, runs: int = 5) -> list[int]:
    """Count the calls of both candidates after each run."""
    model = hybrid(score=score)
    wrapped = (model.small, model.large)
    return [(task(model, way), sum(len(m.requests) for m in wrapped))[1] for _ in range(runs)]


def main(path: str) -> dict[str, Any]:
    """Run everything on one persistent cache."""
    set_llm_cache(SQLiteCache(path))
    tasks = {"chat": chat, "agent": agent}
    plain = {name: plain_calls(task, invoke) for name, task in tasks.items()}
    set_llm_cache(SQLiteCache(f"{path}.hybrid"))  # one prompt, one entry: each has its own
    routed = {name: hybrid_calls(task, invoke) for name, task in tasks.items()}
    set_llm_cache(None)
    return {"plain": plain, "hybrid": routed}


if __name__ == "__main__":
    json.dump(main(sys.argv[1]), sys.stdout)
