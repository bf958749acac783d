"""Calls traced by the real langsmith client; run as a script, it prints the runs it posted.

python -m tests.langchain.langsmith_scenarios multipart
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "cookbook"))

from langchain_core.tools import tool
from langchain_core.tracers.langchain import LangChainTracer, wait_for_all_tracers
from langsmith import Client
from loopback_langsmith import LoopbackLangSmith

from tests.langchain.fakes import FakeChat, hybrid


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return city


def invoke() -> None:
    hybrid(tags=["mine"]).invoke("Hi", {"metadata": {"user": "ann"}})


def ainvoke() -> None:
    asyncio.run(hybrid().ainvoke("Hi"))


def stream() -> None:
    list(hybrid().stream("Hi"))


def astream() -> None:
    async def read() -> None:
        async for _ in hybrid().astream("Hi"):
            pass

    asyncio.run(read())


def batch() -> None:
    hybrid(score=lambda text: 1.0 if text == "Hi" else -1.0).batch(["Hi", "Prove it"])


def bound_tool() -> None:
    hybrid(score=-1.0).bind_tools([weather]).invoke("How is the weather in 'Rome'?")


def error() -> None:
    with contextlib.suppress(ConnectionError):
        hybrid(FakeChat(model="small", fail_after=0), fallback="off").invoke("Hi")


def hidden() -> None:
    client = Client(hide_inputs=True, hide_outputs=True)
    config: Any = {"callbacks": [LangChainTracer(client=client)]}
    hybrid(record_query=True).invoke("My secret", config)
    list(hybrid(record_query=True).stream("My secret", config))
    hybrid().bind_tools([weather]).invoke("My secret 'Rome'", config)
    client.flush()


SCENARIOS = (invoke, ainvoke, stream, astream, batch, bound_tool, error, hidden)


def main(endpoint: str) -> None:
    """Run every scenario against one of the two endpoints."""
    received: dict[str, Any] = {}
    with LoopbackLangSmith(multipart=endpoint == "multipart") as server:
        os.environ.update(server.environment)
        for scenario in SCENARIOS:
            scenario()
            wait_for_all_tracers()
            received[scenario.__name__] = server.take()
    json.dump({"paths": sorted(server.paths), "received": received}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
