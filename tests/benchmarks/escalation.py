"""What escalation buys and costs on recorded answers; each question goes to the small model first.

python -m tests.benchmarks.escalation DATA/routellm_gsm8k.jsonl.gz mixtral-8x7b gpt-4-1106 \
    --escalate refused,tests.benchmarks.escalation:at_most_500_characters --prices 0.6,0.6 10,30
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from shared_router import Candidate, RoutingDataset
from shared_router.cli.options import checks_given
from shared_router.cli.tables_escalation import show_escalation
from shared_router.data.costs import call_costs
from shared_router.measuring.escalation import measure_escalation

if TYPE_CHECKING:
    from shared_router.data.schema import Outcome, RoutingRecord


def at_most_500_characters(text: str) -> bool:
    """Reject long answers: models that are lost go on."""
    return len(text) <= 500


def has_a_number(text: str) -> bool:
    """Reject answers without a digit."""
    return any(character.isdigit() for character in text)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("candidates", nargs="+", help="from the cheapest to the reference")
    parser.add_argument("--escalate", required=True, metavar="CHECKS")
    parser.add_argument(
        "--prices",
        nargs="+",
        metavar="IN,OUT",
        help="of each, $ per million tokens, for data without costs: by the lengths of the answers",
    )
    parser.add_argument("--samples", type=int, help="of each model, the first so many alone")
    given = parser.parse_args()
    data = _first(RoutingDataset.load(given.data).candidates(given.candidates), given.samples)
    first = np.zeros(len(data), dtype=np.intp)
    checks = checks_given(given.escalate)
    usual = call_costs(_priced(given.candidates, given.prices), data).usd if given.prices else None
    found = measure_escalation(data, given.candidates, first, checks, usual_usd=usual)
    show_escalation(Console(), found)


def _first(data: RoutingDataset, samples: int | None) -> RoutingDataset:
    def outcome(whole: Outcome) -> Outcome:
        told = whole.response and whole.response[:samples]
        return whole.model_copy(update={"quality": whole.quality[:samples], "response": told})

    def record(whole: RoutingRecord) -> RoutingRecord:
        kept = {name: outcome(each) for name, each in whole.outcomes.items()}
        return whole.model_copy(update={"outcomes": kept})

    return RoutingDataset(tuple(map(record, data)), name=data.name)


def _priced(names: list[str], prices: list[str]) -> list[Candidate]:
    each = [tuple(map(float, price.split(","))) for price in prices]
    return [
        Candidate(name, input_usd_per_million_tokens=read, output_usd_per_million_tokens=written)
        for name, (read, written) in zip(names, each, strict=True)
    ]


if __name__ == "__main__":
    main()
