"""What escalation buys and costs on recorded answers; each question goes to the small model first.

python -m tests.benchmarks.escalation DATA/routellm_gsm8k.jsonl.gz mixtral-8x7b gpt-4-1106 \
    --escalate refused,tests.benchmarks.escalation:at_most_500_characters
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console

from shared_router import RoutingDataset
from shared_router.cli.options import checks_given
from shared_router.cli.tables_escalation import show_escalation
from shared_router.measuring.escalation import measure_escalation


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
    given = parser.parse_args()
    data = RoutingDataset.load(given.data).candidates(given.candidates)
    first = np.zeros(len(data), dtype=np.intp)
    checks = checks_given(given.escalate)
    show_escalation(Console(), measure_escalation(data, given.candidates, first, checks))


if __name__ == "__main__":
    main()
