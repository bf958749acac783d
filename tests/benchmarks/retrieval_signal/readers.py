"""Two readers trained from scratch to answer from retrieved sentences.

    python -m tests.benchmarks.retrieval_signal.readers large --work DIR
    python -m tests.benchmarks.retrieval_signal.readers small --work DIR

Decoders as those of cookbook/pocket, on pieces of words: `node | node ? question = answer`. They
first learn to repeat random pieces, which is what copying from a context needs, then to complete
questions from what was really retrieved. A run that is interrupted starts anew.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from tests.benchmarks.retrieval_signal.passages import Sentence, sentences
from tests.benchmarks.retrieval_signal.questions import (
    GAP,
    MOST_NODES,
    Question,
    Retrieved,
    ask,
    retrieve,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAD, BOS, EOS, NODE, ASK, ANSWER, BLANK = MARKS = (
    "<pad>", "<s>", "</s>", "<node>", "<ask>", "<answer>", "<blank>"
)  # fmt: skip
VOCABULARY = 1000
TRAIN_QUESTIONS = 24_000
_IGNORED = -100
_POOL_BATCHES = 16
"""Batches drawn at a time, so that prompts of a like length share a batch."""
LONGEST_ANSWER = 24


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run ends with."""

    layers: int
    width: int
    heads: int
    copying_steps: int
    steps: int
    learning_rate: float
    seed: int
    batch: int = 32


RECIPES = {
    "small": Recipe(layers=2, width=32, heads=2, copying_steps=1000, steps=6000,
                    learning_rate=4e-3, seed=1),
    "large": Recipe(layers=3, width=96, heads=4, copying_steps=800, steps=6000,
                    learning_rate=2e-3, seed=2),
}  # fmt: skip


class Pieces:
    """Words to pieces and back."""

    def __init__(self, corpus: Sequence[Sentence]) -> None:
        self._tokenizer = Tokenizer(models.BPE(unk_token=PAD))
        self._tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=list(MARKS), show_progress=False
        )
        texts = [sentence.text for sentence in corpus if not sentence.held_out]
        self._tokenizer.train_from_iterator(texts, trainer)

    def ids(self, words: Sequence[str]) -> list[int]:
        """Encode words."""
        found: list[int] = self._tokenizer.encode(" ".join(words).replace(GAP, BLANK)).ids
        return found

    def mark(self, name: str) -> int:
        """Return the id of a mark."""
        return int(self._tokenizer.token_to_id(name) or 0)

    def words(self, ids: Sequence[int]) -> list[str]:
        """Decode up to the end mark."""
        pieces = [self._tokenizer.id_to_token(i) or "" for i in ids]
        end = pieces.index(EOS) if EOS in pieces else len(pieces)
        text = "".join(piece for piece in pieces[:end] if piece not in MARKS)
        return text.replace("\u2581", " ").split()

    def prompt(self, nodes: Sequence[Sentence], question: Question) -> list[int]:
        """Encode a context and a question."""
        found = [self.mark(BOS)]
        for node in nodes:
            found += [self.mark(NODE), *self.ids(node.words)]
        return [*found, self.mark(ASK), *self.ids(question.words), self.mark(ANSWER)]


def build_model(recipe: Recipe) -> LlamaForCausalLM:
    """Build a model with seeded random weights."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=recipe.width,
            intermediate_size=8 * recipe.width // 3,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=512,
            # Unlike the pocket pair, they look far back by content: slow angles are needed.
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            initializer_range=0.05,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


class Trainer:
    """One training run."""

    def __init__(self, name: str) -> None:
        self.recipe = RECIPES[name]
        self.model = build_model(self.recipe)
        self.corpus = sentences()
        self.pieces = Pieces(self.corpus)
        known = [i for i, sentence in enumerate(self.corpus) if not sentence.held_out]
        self.questions = ask(self.corpus, known, TRAIN_QUESTIONS, seed=10)
        self.found = retrieve(self.corpus, self.questions)
        self.rng = random.Random(self.recipe.seed)  # noqa: S311 - seeded on purpose
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.98), weight_decay=0.01
        )

    def run(self, path: Path) -> None:
        """Train to the last step, and save."""
        began, losses, hits = time.monotonic(), [], []
        batches = self._batches()
        for step in range(self.recipe.steps):
            copying = step < self.recipe.copying_steps
            ids, labels, answers = self._repeats(step) if copying else next(batches)
            loss, hit = self._learn(step, ids, labels, answers)
            losses.append(loss)
            hits.append(hit)
            if (step + 1) % 100 == 0:
                mean_loss, mean_hit = sum(losses) / len(losses), sum(hits) / len(hits)
                elapsed_s = time.monotonic() - began
                print(f"{step + 1} {elapsed_s:.0f}s {mean_loss:.3f} {mean_hit:.3f}", flush=True)  # noqa: T201
                losses, hits = [], []
            if (step + 1) % 500 == 0:
                save_file(_weights(self.model), path)
        save_file(_weights(self.model), path)

    def _learn(
        self, step: int, ids: torch.Tensor, labels: torch.Tensor, answers: torch.Tensor
    ) -> tuple[float, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        hidden = self.model.model(ids, use_cache=False).last_hidden_state
        counted = labels != _IGNORED
        logits = self.model.lm_head(hidden[counted])
        loss = cross_entropy(logits, labels[counted])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        right = logits.argmax(-1) == labels[counted]
        return loss.item(), right[answers[counted]].float().mean().item()

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / 100)
        left = max(0.02, min(1.0, 2 * (self.recipe.steps - step) / self.recipe.steps))
        return self.recipe.learning_rate * warm * left

    def _repeats(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return random pieces, and from a random place on the same again."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 100_000 + step)
        length = self.rng.randint(10, 60)
        size = 2 * self.recipe.batch
        first = torch.randint(len(MARKS), VOCABULARY, (size, length), generator=generator)
        start = torch.randint(0, length // 2, (size, 1), generator=generator)
        again = first.gather(1, start + torch.arange(length // 2)[None, :])
        ids = torch.cat([first, again], dim=1)
        labels = ids[:, 1:].clone()
        # The first repeated piece cannot be foreseen.
        labels[:, :length] = _IGNORED
        return ids[:, :-1], labels, labels != _IGNORED

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield questions with as many nodes as is drawn for each."""
        size = self.recipe.batch
        while True:
            rows = [self._row() for _ in range(size * _POOL_BATCHES)]
            rows.sort(key=lambda row: len(row[0]) + len(row[1]))
            batches = [rows[start : start + size] for start in range(0, len(rows), size)]
            self.rng.shuffle(batches)
            yield from map(self._collate, batches)

    def _row(self) -> tuple[list[int], list[int]]:
        number = self.rng.randrange(len(self.questions))
        count = self.rng.randint(1, MOST_NODES)
        nodes = [self.corpus[i] for i in self.found.nodes[number, :count]]
        question = self.questions[number]
        answer = [*self.pieces.ids(question.answer), self.pieces.mark(EOS)]
        return self.pieces.prompt(nodes, question), answer

    def _collate(
        self, batch: list[tuple[list[int], list[int]]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pad on the right; question and answer count, the answer is reported."""
        width = max(len(prompt) + len(answer) for prompt, answer in batch) - 1
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        labels = torch.full((len(batch), width), _IGNORED)
        answers = torch.zeros((len(batch), width), dtype=torch.bool)
        for row, (prompt, answer) in enumerate(batch):
            whole = torch.tensor(prompt + answer)
            asked = prompt.index(self.pieces.mark(ASK))
            ids[row, : len(whole) - 1] = whole[:-1]
            labels[row, asked : len(whole) - 1] = whole[asked + 1 :]
            answers[row, len(prompt) - 1 : len(whole) - 1] = True
        return ids, labels, answers


class Reader:
    """A trained reader."""

    def __init__(self, name: str, work: Path, corpus: Sequence[Sentence]) -> None:
        self.model = build_model(RECIPES[name])
        self.model.load_state_dict(load_file(work / f"{name}.safetensors"), strict=False)
        self.model.tie_weights()
        self.model.eval()
        self.corpus, self.pieces = corpus, Pieces(corpus)

    def context_tokens(self, nodes: Sequence[int]) -> int:
        """Count the pieces of a context."""
        return sum(len(self.pieces.ids(self.corpus[i].words)) + 1 for i in nodes)

    def right(
        self, questions: Sequence[Question], found: Retrieved, counts: Sequence[int]
    ) -> list[float]:
        """Tell for each question whether the greedy answer has the missing word.

        Args:
            questions: The questions.
            found: What was retrieved for them.
            counts: How many of these nodes each is answered from.
        """
        prompts = [
            self.pieces.prompt([self.corpus[i] for i in found.nodes[row, :count]], question)
            for row, (question, count) in enumerate(zip(questions, counts, strict=True))
        ]
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        marks = [0.0] * len(prompts)
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            for row, words in zip(rows, self._write([prompts[i] for i in rows]), strict=True):
                marks[row] = float(questions[row].missing in words)
        return marks

    def _write(self, prompts: list[list[int]]) -> list[list[str]]:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        with torch.inference_mode():
            written = self.model.generate(
                ids,
                attention_mask=(ids != 0).long(),
                max_new_tokens=LONGEST_ANSWER,
                do_sample=False,
            )
        return [self.pieces.words(row) for row in written[:, width:].tolist()]


def _weights(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}


def main() -> None:
    """Train the reader that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=[*RECIPES])
    parser.add_argument("--work", type=Path, required=True, help="for the weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    Trainer(arguments.reader).run(arguments.work / f"{arguments.reader}.safetensors")


if __name__ == "__main__":
    main()
