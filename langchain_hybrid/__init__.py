"""LangChain front of hybrid-llm: one trained router inside any chain."""

from langchain_hybrid.chat_model import HybridChatModel
from langchain_hybrid.prompts import QueryFromPrompt, with_routing_query
from langchain_hybrid.replay import ReplayChatModel

__all__ = ["HybridChatModel", "QueryFromPrompt", "ReplayChatModel", "with_routing_query"]
