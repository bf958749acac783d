"""Measure both models on fresh questions and write their figures and their card.

python -m cookbook.pocket.evaluate
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from cookbook.pocket.card import write_card
from cookbook.pocket.generation import MODELS, answer_all, load_model, parameters_per_token
from cookbook.pocket.questions import CELLS, Question, questions
from shared_router.data.output import write_whole

PAIR = ("small", "large")


class Figures(TypedDict):
    """What is measured of one model."""

    parameters: int
    parameters_per_token: int
    """All but the embedding table."""
    weight_bytes: int
    accuracy: float
    accuracy_interval: list[float]
    """Wilson, 95 %."""
    cells: dict[str, list[float]]
    """Accuracy by kind, at difficulties 1 to 3."""


def wilson(hits: int, count: int) -> list[float]:
    """Return the 95 % Wilson interval of a share."""
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * ((share * (1 - share) + z * z / (4 * count)) / count) ** 0.5 / (1 + z * z / count)
    return [round(middle - half, 4), round(middle + half, 4)]


def by_cell(asked: list[Question], right: np.ndarray) -> dict[str, list[float]]:
    """Return the accuracy of every kind at every difficulty."""
    table: dict[str, list[float]] = {}
    for kind, difficulty in CELLS:
        mine = [(q.kind, q.difficulty) == (kind, difficulty) for q in asked]
        table.setdefault(kind, []).append(round(float(right[mine].mean()), 4))
    return table


def measure(name: str, asked: list[Question]) -> tuple[Figures, np.ndarray]:
    """Ask one model every question, greedily; return its figures and which were right."""
    model = load_model(MODELS / name)
    answers = answer_all(model, [question.text for question in asked])
    right = np.array([a == question.answer for a, question in zip(answers, asked, strict=True)])
    hits = int(right.sum())
    return {
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "parameters_per_token": parameters_per_token(model),
        "weight_bytes": (MODELS / name / "model.safetensors").stat().st_size,
        "accuracy": round(hits / len(asked), 4),
        "accuracy_interval": wilson(hits, len(asked)),
        "cells": by_cell(asked, right),
    }, right


def main() -> None:
    """Measure, print the overall figures and write `measured.json` and `README.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    asked = questions(arguments.count, seed=arguments.seed)
    (small, small_right), (large, large_right) = (measure(name, asked) for name in PAIR)
    figures = {
        "questions": arguments.count,
        "seed": arguments.seed,
        "small": small,
        "large": large,
        "compute_ratio": round(large["parameters_per_token"] / small["parameters_per_token"], 1),
        "only_small_right": round(float((small_right & ~large_right).mean()), 4),
        "neither_right": round(float((~small_right & ~large_right).mean()), 4),
    }
    measured = json.dumps(figures, indent=1) + "\n"
    write_whole(arguments.out / "measured.json", measured.encode())
    write_card(figures, arguments.out / "README.md")
    print(f"small {small['accuracy']:.1%}, large {large['accuracy']:.1%}, of {arguments.count}")


if __name__ == "__main__":
    main()
