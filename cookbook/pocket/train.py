"""Train the pocket pair from scratch; started again after an interruption, it resumes.

python -m cookbook.pocket.train small
python -m cookbook.pocket.train large
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from cookbook.pocket.curriculum import Curriculum
from cookbook.pocket.questions import CELLS, Cell
from cookbook.pocket.tokenizer import (
    BOS,
    EOS,
    PAD,
    VOCABULARY,
    build_tokenizer,
    encode_answer,
    encode_question,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cookbook.pocket.questions import Question

MODELS = Path(__file__).parent / "models"
_IGNORED = -100
_POOL_BATCHES = 16
"""Batches drawn at a time, so that questions of a like length share a batch."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run ends with."""

    layers: int
    width: int
    inner_width: int
    heads: int
    steps: int
    batch: int
    learning_rate: float
    seed: int
    syllabus: tuple[Cell, ...] = CELLS
    """What it is to be good at; of everything else it sees `OUTSIDE` as much."""


SIMPLE = tuple(
    (kind, difficulty)
    for kind, difficulty in CELLS
    if difficulty == 1
    or (difficulty == 2 and kind in {"addition", "subtraction", "comparison", "letter", "sorting"})
)
RECIPES = {
    # The small one is to be sure of half of all questions rather than fair at all of them: then a
    # router has something to find.
    "small": Recipe(layers=2, width=24, inner_width=64, heads=3, steps=10_000, batch=64,
                    learning_rate=4e-3, seed=1, syllabus=SIMPLE),
    "large": Recipe(layers=3, width=96, inner_width=256, heads=4, steps=16_000, batch=64,
                    learning_rate=1.5e-3, seed=2),
}  # fmt: skip


def build_model(recipe: Recipe) -> LlamaForCausalLM:
    """Build a model with seeded random weights."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=recipe.width,
            intermediate_size=recipe.inner_width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=128,
            # The usual base of 10,000 leaves most of the angles idle at such lengths: with 100
            # the large model learns to reverse words in a fraction of the steps.
            rope_parameters={"rope_type": "default", "rope_theta": 100.0},
            initializer_range=0.05,
            tie_word_embeddings=True,
            pad_token_id=VOCABULARY[PAD],
            bos_token_id=VOCABULARY[BOS],
            eos_token_id=VOCABULARY[EOS],
        )
    )


def collate(batch: list[Question]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return right-padded ids and next-token labels, (n, length) each; answers alone count."""
    rows, labels = [], []
    for question in batch:
        prompt, answer = encode_question(question.text), encode_answer(question.answer)
        rows.append(prompt + answer[:-1])
        labels.append([_IGNORED] * (len(prompt) - 1) + answer)
    width = max(map(len, rows))
    ids = torch.tensor([row + [VOCABULARY[PAD]] * (width - len(row)) for row in rows])
    return ids, torch.tensor([row + [_IGNORED] * (width - len(row)) for row in labels])


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate at a step: a warm-up, a plateau, a straight fall from 3/8 of the way."""
    warm = min(1.0, (step + 1) / 100)
    left = max(0.02, min(1.0, 1.6 * (recipe.steps - step) / recipe.steps))
    return recipe.learning_rate * warm * left


class Trainer:
    """One training run with its checkpoint on disk."""

    def __init__(self, name: str, work: Path, limit_s: float = math.inf) -> None:
        self.name, self.work, self.recipe = name, work, RECIPES[name]
        self.limit_s = limit_s
        self.model = build_model(self.recipe)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.98), weight_decay=0.01
        )
        self.curriculum, self.step = Curriculum(self.recipe.syllabus), 0

    def run(self) -> None:
        """Train to the last step, resuming from the checkpoint where there is one."""
        self._resume()
        began = time.monotonic()
        self.model.train()
        while self.step < self.recipe.steps:
            for batch in self._batches():
                self._learn(batch)
                if self.step >= self.recipe.steps:
                    break
            print(self._line(time.monotonic() - began), flush=True)
            self._checkpoint()
            if time.monotonic() - began > self.limit_s:
                break
        self.export(MODELS / self.name)

    def _batches(self) -> Iterator[list[Question]]:
        """Yield batches of questions of a like length, drawn anew at every pool."""
        rng = random.Random(f"{self.recipe.seed}/{self.step}")  # noqa: S311 - seeded on purpose
        size = self.recipe.batch
        pool = self.curriculum.draw(rng, size * _POOL_BATCHES)
        pool.sort(key=lambda question: len(question.text))
        batches = [pool[start : start + size] for start in range(0, len(pool), size)]
        rng.shuffle(batches)
        yield from batches

    def _learn(self, batch: list[Question]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        ids, labels = collate(batch)
        hidden = self.model.model(ids, use_cache=False).last_hidden_state
        asked = labels != _IGNORED
        logits = self.model.lm_head(hidden[asked])
        cross_entropy(logits, labels[asked]).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        wrong = torch.zeros_like(asked)
        wrong[asked] = logits.argmax(-1) != labels[asked]
        cells = [(question.kind, question.difficulty) for question in batch]
        self.curriculum.record(cells, (~wrong.any(1)).tolist())
        self.step += 1

    def _line(self, elapsed_s: float) -> str:
        kinds: dict[str, str] = {}
        for (kind, _), share in self.curriculum.accuracy.items():
            kinds[kind] = f"{kinds.get(kind, '')}{100 * share:3.0f}"
        shares = " ".join(f"{kind[:4]}{values}" for kind, values in kinds.items())
        return f"{self.step} {elapsed_s:.0f}s | {shares}"

    def _checkpoint(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": value for name, value in self.model.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        partial = self._path.with_suffix(".partial")
        notes = {"step": str(self.step), "accuracy": json.dumps(self.curriculum.state())}
        save_file(tensors, partial, metadata=notes)
        partial.replace(self._path)

    @property
    def _path(self) -> Path:
        return self.work / f"{self.name}.safetensors"

    def _resume(self) -> None:
        if not self._path.exists():
            return
        from safetensors import safe_open

        with safe_open(self._path, "pt") as file:
            notes = file.metadata()
        self.step = int(notes["step"])
        self.curriculum.restore(json.loads(notes["accuracy"]))
        tensors = load_file(self._path)
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k[0] == "m"}
        self.model.model.load_state_dict(weights)
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
        whole = self.optimizer.state_dict() | {"state": state}
        self.optimizer.load_state_dict(whole)

    def export(self, folder: Path) -> None:
        """Save the model in half precision with its tokenizer, ready for `from_pretrained`."""
        settings = self.model.generation_config
        settings.max_new_tokens, settings.do_sample = 16, False
        exported = build_model(self.recipe)
        exported.load_state_dict(self.model.state_dict())
        exported.generation_config = settings
        exported.half().save_pretrained(folder)
        build_tokenizer().save_pretrained(folder)


def main() -> None:
    """Train the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=[*RECIPES], help="which of the two to train")
    parser.add_argument("--work", type=Path, default=Path(".pocket"), help="for checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit-s", type=float, default=math.inf, help="stop early after this")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    Trainer(arguments.model, arguments.work, arguments.limit_s).run()


if __name__ == "__main__":
    main()
