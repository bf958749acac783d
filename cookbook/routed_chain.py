"""A routed prompt | model | parser chain, offline: two models' recorded answers stand in for them.

    python cookbook/routed_chain.py

The router learns from questions on which both models were measured. In your own chain only the
two models differ: `HybridChatModel(small="ollama:llama3.2", large="openai:gpt-4o", router=...)`.
"""

from __future__ import annotations

from itertools import product

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_hybrid import HybridChatModel, ReplayChatModel, with_routing_query
from shared_router import Router, RoutingDataset, RoutingDecision, hybrid_options
from shared_router.data.schema import Outcome, RoutingRecord

PLACES = ("France", "Japan", "Kenya", "Peru", "Norway", "Egypt", "Chile", "India")
EASY = (
    "What is the capital of {}?",
    "Which language is spoken in {}?",
    "On which continent is {}?",
)
NUMBERS = (17, 23, 31, 46, 58, 64, 79, 92)
HARD = (
    "A baker sells {} loaves at 3 dollars, then 40 % more. How many dollars does he take?",
    "Prove that the sum of the first {} odd numbers is a square.",
    "A train needs {} minutes for 3/4 of its way. How many minutes are left at 2/3 of its speed?",
)
USD = {"small": 0.0001, "large": 0.004}


def record(position: int, question: str, small_is_good: bool) -> RoutingRecord:
    """Make one measured question; a third of each kind is kept for calibration."""
    quality = {"small": float(small_is_good), "large": 1.0}
    outcomes = {
        name: Outcome(
            quality=(quality[name],),
            response=(f"{'right' if quality[name] else 'wrong'} answer of the {name} model",),
            cost_usd=USD[name],
        )
        for name in quality
    }
    split = "train" if (position // 2 + position // 6) % 3 else "validation"
    return RoutingRecord(id=str(position), query=question, split=split, outcomes=outcomes)


def measured() -> RoutingDataset:
    """Return questions of two kinds: the small model is as good on one, and not on the other."""
    easy = [(form.format(place), True) for place, form in product(PLACES, EASY)]
    hard = [(form.format(number), False) for number, form in product(NUMBERS, HARD)]
    pairs = [pair for both in zip(easy, hard, strict=True) for pair in both]
    return RoutingDataset(tuple(record(i, *pair) for i, pair in enumerate(pairs)), "cookbook")


def main() -> None:
    data = measured()
    train, validation = data.split("train"), data.split("validation")
    router = Router.fit(train, ["small", "large"], encoder="minilm").calibrate(validation)

    decisions: list[RoutingDecision] = []
    model = HybridChatModel(
        small=ReplayChatModel(data=validation, model="small"),
        large=ReplayChatModel(data=validation, model="large"),
        router=router,
        max_quality_drop=0.02,
        confidence="estimate",  # these are too few questions for a promise
        on_decision=[decisions.append],
    )
    prompt = ChatPromptTemplate(
        [("system", "You are a helpful assistant."), ("human", "Question: {question}\nAnswer:")]
    )
    chain = with_routing_query(prompt | model | StrOutputParser())

    # Shown on the calibration questions, to keep this short; `router.evaluate` measures honestly.
    print("At most 2 % worse than all-large, by the estimate:")
    for question in validation.queries:
        answer = chain.invoke({"question": question})
        print(f"  {decisions[-1].summary()}\n    {question}\n    -> {answer}")

    small = sum(decision.candidate == "small" for decision in decisions)
    usd = sum(USD[decision.candidate] for decision in decisions)
    all_large = USD["large"] * len(decisions)
    print(f"\n{small} of {len(decisions)} calls went to the small model: ", end="")
    print(f"{usd:.4f} instead of {all_large:.4f} dollars.")

    print("\nThe same question, other dials:")
    question = {"question": validation.queries[0]}
    chain.invoke(question, {"configurable": {"hybrid_cost_advantage": 0.0}})
    print(f"  in a config:       {decisions[-1].summary()}")
    with hybrid_options(route="large"):
        chain.invoke(question)
    print(f"  in hybrid_options: {decisions[-1].summary()}")
    print(f"  a preview:         {model.route(question['question']).summary()}")


if __name__ == "__main__":
    main()
