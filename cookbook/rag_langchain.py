"""A routed RAG chain over this repository's docs, offline: recorded answers stand in for models.

    python cookbook/rag_langchain.py

The router scores the question, never the pages of docs in the prompt around it. In your own chain
only the two models differ: `HybridChatModel(small="ollama:llama3.2", large=..., router=...)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from repository_docs import bill, embed, measured, sections

from langchain_hybrid import HybridChatModel, ReplayChatModel, with_routing_query
from shared_router import Router, hybrid_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router import RoutingDecision

QUESTIONS = 8


class EncoderEmbeddings(Embeddings):
    """Embeds with the router's own encoder: one model on disk serves both."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed what is stored."""
        return embed(texts)

    def embed_query(self, text: str) -> list[float]:
        """Embed what is asked."""
        return embed([text])[0]


def joined(documents: Sequence[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


def main() -> None:
    data = measured()
    train, validation = data.split("train"), data.split("validation")
    router = Router.fit(train, ["small", "large"]).calibrate(validation)

    decisions: list[RoutingDecision] = []
    model = HybridChatModel(
        small=ReplayChatModel(data=data, model="small"),
        large=ReplayChatModel(data=data, model="large"),
        router=router,
        max_quality_drop=0.02,
        confidence="estimate",  # these are too few questions for a promise
        on_decision=[decisions.append],
    )
    store = InMemoryVectorStore(EncoderEmbeddings())
    store.add_documents([Document(text, metadata={"source": name}) for name, text in sections()])
    retriever = store.as_retriever(search_kwargs={"k": 2})
    prompt = ChatPromptTemplate(
        [("human", "Answer by the context.\n\n{context}\n\nQuestion: {question}\nHelpful Answer:")]
    )
    inputs = {"context": retriever | joined, "question": RunnablePassthrough()}
    chain = with_routing_query(inputs | prompt | model | StrOutputParser())

    # Asked on calibration questions, to keep this short; `router.evaluate` measures honestly.
    print("At most 2 % worse than all-large, by the estimate:")
    for question in validation.queries[:QUESTIONS]:
        answer = chain.invoke(question)
        decision = decisions[-1]
        documents = retriever.invoke(question)
        found = ", ".join(document.metadata["source"] for document in documents)
        print(f"  {decision.summary()}, by {decision.query_source}\n    {question}")
        read = len(joined(documents))
        print(f"    scored {decision.query_length} characters, beside {read} of: {found}")
        print(f"    -> {answer}")
    print(f"\n{bill(decisions)}")

    question = validation.queries[0]
    print("\nThe same question, other dials:")
    chain.invoke(question, {"configurable": {"hybrid_cost_advantage": 0.0}})
    print(f"  in a config:       {decisions[-1].summary()}")
    with hybrid_options(route="large"):
        chain.invoke(question)
    print(f"  in hybrid_options: {decisions[-1].summary()}")
    print(f"  a preview:         {model.route(question).summary()}")

    print("\nStreamed:")
    del decisions[:]
    said = "".join(chain.stream(validation.queries[1]))
    print(f"  {decisions[0].summary()}, by {decisions[0].query_source}\n    -> {said}")


if __name__ == "__main__":
    main()
