"""A routed query engine over this repository's docs, offline: recorded answers stand in for models.

    python cookbook/rag_llamaindex.py

The router scores the question, never the pages of docs in the prompt around it. In your own engine
only the two models differ: `HybridLLM(small=Ollama(...), large=OpenAI(...), router=...)`.
"""

from __future__ import annotations

from contextlib import nullcontext

from llama_index.core import VectorStoreIndex
from llama_index.core.chat_engine import CondensePlusContextChatEngine
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import TextNode
from repository_docs import bill, embed, measured, sections

from llamaindex_hybrid import HybridLLM, ReplayLLM, track_queries
from shared_router import Router, RoutingDecision, hybrid_options

QUESTIONS = 8


class EncoderEmbedding(BaseEmbedding):
    """Embeds with the router's own encoder: one model on disk serves both."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return embed([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return embed([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return embed([query])[0]


def remembering(question: str) -> ChatMemoryBuffer:
    history = [ChatMessage(question, role="user"), ChatMessage("Noted.", role="assistant")]
    return ChatMemoryBuffer.from_defaults(chat_history=history, token_limit=3_000)


def main() -> None:
    data = measured()
    train, validation = data.split("train"), data.split("validation")
    router = Router.fit(train, ["small", "large"]).calibrate(validation)

    decisions: list[RoutingDecision] = []
    llm = HybridLLM(
        small=ReplayLLM(data=data, model="small"),
        large=ReplayLLM(data=data, model="large"),
        router=router,
        max_quality_drop=0.02,
        confidence="estimate",  # these are too few questions for a promise
        no_query={"condense": "small"},
        on_decision=[decisions.append],
    )
    nodes = [TextNode(text=text, metadata={"source": source}) for source, text in sections()]
    index = VectorStoreIndex(nodes, embed_model=EncoderEmbedding())
    engine = index.as_query_engine(llm=llm, similarity_top_k=2)

    # Asked on calibration questions, to keep this short; `router.evaluate` measures honestly.
    print("At most 2 % worse than all-large, by the estimate:")
    for question in validation.queries[:QUESTIONS]:
        answer = engine.query(question)
        decision = decisions[-1]
        read = sum(len(source.text) for source in answer.source_nodes)
        found = ", ".join(source.metadata["source"] for source in answer.source_nodes)
        print(f"  {decision.summary()}, by {decision.query_source}\n    {question}")
        print(f"    scored {decision.query_length} characters, beside {read} of: {found}")
        print(f"    -> {answer}")
    print(f"\n{bill(decisions)}")

    question = validation.queries[0]
    print("\nThe same question, other dials:")
    with hybrid_options(cost_advantage=0.0):
        engine.query(question)
    print(f"  in hybrid_options: {decisions[-1].summary()}")
    print(f"  a preview:         {llm.route(question, route='large').summary()}")

    print("\nA chat: its condense step has no question of its own, unless spans are tracked:")
    for spans in (nullcontext, track_queries):
        chat = CondensePlusContextChatEngine.from_defaults(
            retriever=index.as_retriever(similarity_top_k=2), llm=llm, memory=remembering(question)
        )
        del decisions[:]
        with spans():
            said = "".join(chat.stream_chat(validation.queries[1]).response_gen)
        for step, decision in zip(("condense", "answer"), decisions, strict=True):
            print(f"  {step}: {decision.summary()}, by {decision.query_source}")
        print(f"    -> {said}")


if __name__ == "__main__":
    main()
