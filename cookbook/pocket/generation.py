"""Token-by-token generation with a pocket model, alone or in batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from transformers import DynamicCache, LlamaForCausalLM

from cookbook.pocket.tokenizer import CHARACTERS, EOS, PAD, VOCABULARY, encode_question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODELS = Path(__file__).parent / "models"
LONGEST_PROMPT = 112
"""In tokens. Of a longer question only the end is read; the models know 128 positions."""
LONGEST_ANSWER = 16
_LEAST_TEMPERATURE = 1e-6
"""Below it is greedy: float32 overflows when logits are divided by less."""
_TEXT = dict(enumerate([""] * (len(VOCABULARY) - len(CHARACTERS)) + list(CHARACTERS)))


def load_model(folder: str | Path) -> LlamaForCausalLM:
    """Load a model from its folder, in float32 because CPUs are slow with half precision."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return cast("LlamaForCausalLM", model.eval())


def parameters_per_token(model: LlamaForCausalLM) -> int:
    """Count the parameters that every token passes through: all but the embedding table."""
    total = sum(weights.numel() for weights in model.parameters())
    return total - model.get_input_embeddings().weight.numel()


def encode_prompt(text: str) -> list[int]:
    """Return a question's token ids, shortened from the left to what a model can read."""
    ids = encode_question(text)
    return ids if len(ids) <= LONGEST_PROMPT else [ids[0], *ids[1 - LONGEST_PROMPT :]]


@torch.inference_mode()
def generate_tokens(
    model: LlamaForCausalLM,
    prompt: list[int],
    *,
    temperature: float = 0.0,
    max_tokens: int = LONGEST_ANSWER,
    seed: int | None = None,
) -> Iterator[int]:
    """Yield an answer's token ids one by one, the ending mark last if it is reached.

    Args:
        model: A pocket model.
        prompt: The ids of `encode_prompt`.
        temperature: 0 is greedy; 1 samples from the model's own distribution.
        max_tokens: The most ids to yield.
        seed: Makes a sampled answer repeatable.
    """
    randomness = torch.Generator()
    randomness.seed() if seed is None else randomness.manual_seed(seed)
    cache, ids = DynamicCache(config=model.config), torch.tensor([prompt])
    for _ in range(max_tokens):
        # By position: transformers 5.24 renamed the keyword of the cache.
        logits = model(ids, None, None, cache, use_cache=True, logits_to_keep=1).logits[0, -1]
        token = _choose(logits, temperature, randomness)
        yield token
        if token == VOCABULARY[EOS]:
            return
        ids = torch.tensor([[token]])


def _choose(logits: torch.Tensor, temperature: float, randomness: torch.Generator) -> int:
    if temperature < _LEAST_TEMPERATURE:
        return int(logits.argmax())
    chances = torch.softmax(logits / temperature, dim=-1)
    return int(torch.multinomial(chances, 1, generator=randomness))


def text_of(token: int) -> str:
    """Return a token's text; marks have none."""
    return _TEXT[token]


@torch.inference_mode()
def answer_all(model: LlamaForCausalLM, texts: Sequence[str], *, batch: int = 128) -> list[str]:
    """Answer many questions greedily, those of a like length together."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    answers = [""] * len(texts)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        for place, answer in zip(
            places, _answer_batch(model, [texts[i] for i in places]), strict=True
        ):
            answers[place] = answer
    return answers


def _answer_batch(model: LlamaForCausalLM, texts: list[str]) -> list[str]:
    prompts = [encode_prompt(text) for text in texts]
    width = max(map(len, prompts))
    pad = VOCABULARY[PAD]
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(
        ids, attention_mask=mask, max_new_tokens=LONGEST_ANSWER, do_sample=False
    )
    return ["".join(_TEXT[token] for token in row) for row in output[:, width:].tolist()]
