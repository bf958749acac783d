"""LangChain front of hybrid-llm: one trained router inside any chain."""

from shared_router.errors import MissingExtraError

try:
    from langchain_hybrid.chat_model import HybridChatModel
    from langchain_hybrid.prompts import QueryFromPrompt, with_routing_query
    from langchain_hybrid.replay import ReplayChatModel
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langchain_core":
        raise
    raise MissingExtraError(
        "langchain_hybrid needs langchain-core", ["hybrid-llm[langchain]"]
    ) from error

__all__ = ["HybridChatModel", "QueryFromPrompt", "ReplayChatModel", "with_routing_query"]
