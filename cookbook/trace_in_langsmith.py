"""Trace a routed chain in LangSmith: which model answered, why, and what it cost.

    python cookbook/trace_in_langsmith.py

With LANGSMITH_API_KEY set, the traces go to your LangSmith project. Without it, a server on
127.0.0.1 takes them and this recipe prints what it received. No model is called either way: two
`ReplayChatModel`s answer from recorded outcomes. Put your own chat models in their place.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tracers.langchain import wait_for_all_tracers
from loopback_langsmith import LoopbackLangSmith, describe

from langchain_hybrid import HybridChatModel, ReplayChatModel, with_routing_query
from shared_router import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.testing import fixed_router

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import Runnable

ANSWERS = {
    "What is the capital of France?": ("Paris.", "The capital of France is Paris."),
    "Prove that there are infinitely many primes.": (
        "There are many.",
        "Suppose there are finitely many; their product plus one has a prime factor not listed.",
    ),
}


def recorded() -> RoutingDataset:
    """Make a data set of two queries that both models answered."""
    records = [
        RoutingRecord(
            id=str(number),
            query=query,
            outcomes={
                "small": Outcome(quality=(1.0 if number == 0 else 0.0,), response=(small,)),
                "large": Outcome(quality=(1.0,), response=(large,)),
            },
        )
        for number, (query, (small, large)) in enumerate(ANSWERS.items())
    ]
    return RoutingDataset(tuple(records), "recorded")


def routed_chain() -> Runnable[dict[str, str], str]:
    """Build prompt | model | parser, routed by the user's question."""
    data = recorded()
    model = HybridChatModel(
        small=ReplayChatModel(data=data, model="small"),
        large=ReplayChatModel(data=data, model="large"),
        # A trained router in real life: Router.from_pretrained("my-router").
        router=fixed_router(lambda query: -1.0 if query.startswith("Prove") else 1.0),
    )
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer briefly."), ("human", "Question: {question}")]
    )
    return with_routing_query(prompt | model | StrOutputParser(), key="question")


@contextmanager
def langsmith() -> Iterator[LoopbackLangSmith | None]:
    """Trace to LangSmith where there is a key, else to a server on this machine."""
    if os.environ.get("LANGSMITH_API_KEY"):
        os.environ.setdefault("LANGSMITH_TRACING", "true")
        yield None
        return
    with LoopbackLangSmith() as server:
        os.environ.update(server.environment)  # before the first traced call
        yield server


def main() -> None:
    """Ask two questions, and show the trace of each."""
    with langsmith() as server:
        chain = routed_chain()
        for question in ANSWERS:
            print(f"> {question}\n{chain.invoke({'question': question})}\n")
        wait_for_all_tracers()
        if server is None:
            print("Traced: open your project in LangSmith and filter by tag, such as")
            print("hybrid_routing:small, or by metadata, such as hybrid_routing.reason.")
            return
        for run in server.take():
            print("\n".join(describe(run)), end="\n\n")


if __name__ == "__main__":
    main()
