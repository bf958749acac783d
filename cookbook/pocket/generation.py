"""Token-by-token generation with a pocket model, alone or in batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from transformers import DynamicCache, LlamaForCausalLM

from cookbook.pocket.tokenizer import CHARACTERS, EOS, PAD, VOCABULARY, encode_question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MODELS = Path(__file__).parent / "models"
LONGEST_PROMPT = 112
"""In tokens. Of a longer question only the end is read; the models know 128 positions."""
LONGEST_ANSWER = 16
_LEAST_TEMPERATURE = 1e-6
"""Below it is greedy: float32 overflows when logits are divided by less."""
_TEXT = dict(enumerate([""] * (len(VOCABULARY) - len(CHARACTERS)) + list(CHARACTERS)))
_NAMES = {token: name for name, token in VOCABULARY.items()}


class Token(NamedTuple):
    """A token, and what the model thought of it."""

    id: int
    logprob: float
    """Natural logarithm of its probability in the model's own distribution, whatever the
    temperature."""


class Step(NamedTuple):
    """One step of an answer."""

    chosen: Token
    likeliest: Token
    """The token of the highest probability; sampling may choose another one."""


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
) -> Iterator[Step]:
    """Yield an answer's tokens one by one, the ending mark last if it is reached.

    Args:
        model: A pocket model.
        prompt: The ids of `encode_prompt`.
        temperature: 0 is greedy; 1 samples from the model's own distribution.
        max_tokens: The most tokens to yield.
        seed: Makes a sampled answer repeatable.
    """
    randomness = torch.Generator()
    randomness.seed() if seed is None else randomness.manual_seed(seed)
    cache, ids = DynamicCache(config=model.config), torch.tensor([prompt])
    for _ in range(max_tokens):
        # By position: transformers 5.24 renamed the keyword of the cache.
        logits = model(ids, None, None, cache, use_cache=True, logits_to_keep=1).logits[0, -1]
        token = _choose(logits, temperature, randomness)
        known = torch.log_softmax(logits.double(), dim=-1)
        yield Step(*(Token(each, float(known[each])) for each in (token, int(logits.argmax()))))
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


def mark_of(token: int) -> str:
    """Return what a token is called in the vocabulary: of a mark, its name."""
    return _NAMES[token]


def answer_all(model: LlamaForCausalLM, texts: Sequence[str], *, batch: int = 128) -> list[str]:
    """Answer many questions greedily, those of a like length together."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    answers = [""] * len(texts)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        prompts = [encode_prompt(texts[place]) for place in places]
        unused = np.zeros((len(prompts), LONGEST_ANSWER))
        for place, tokens in zip(places, generate_batch(model, prompts, unused), strict=True):
            answers[place] = "".join(text_of(token.id) for token in tokens)
    return answers


@torch.inference_mode()
def generate_batch(
    model: LlamaForCausalLM,
    prompts: list[list[int]],
    chances: NDArray[np.float64],
    temperature: float = 0.0,
) -> list[list[Token]]:
    """Generate answers for prompts of any lengths, padded on the left.

    Args:
        model: A pocket model.
        prompts: Token ids, one list a question.
        chances: Uniform numbers in [0, 1), shape (n, longest answer), one per token to choose.
        temperature: 0 is greedy.

    Returns:
        The tokens of each answer, the ending mark last where it is reached.
    """
    width, pad, end = max(map(len, prompts)), VOCABULARY[PAD], VOCABULARY[EOS]
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = (ids != pad).long()
    places = (mask.cumsum(1) - 1).clamp(min=0)
    cache, done = DynamicCache(config=model.config), torch.zeros(len(prompts), dtype=torch.bool)
    columns, logprobs = [], []
    for chance in torch.from_numpy(chances).T:
        logits = model(ids, mask, places, cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        token = torch.where(done, pad, _choose_each(logits, chance, temperature))
        columns.append(token)
        logprobs.append(torch.log_softmax(logits.double(), -1).gather(1, token[:, None])[:, 0])
        done |= token == end
        if bool(done.all()):
            break
        ids, places = token[:, None], places[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
    ids_of, logprobs_of = (torch.stack(each, dim=1).tolist() for each in (columns, logprobs))
    rows = zip(ids_of, logprobs_of, strict=True)
    return [_until_end(list(map(Token, *row)), end) for row in rows]


def _choose_each(logits: torch.Tensor, chance: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature < _LEAST_TEMPERATURE:
        return logits.argmax(-1)
    reached = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    found = torch.searchsorted(reached, chance[:, None] * reached[:, -1:], right=True)
    return found.clamp(max=logits.shape[-1] - 1)[:, 0]


def _until_end(row: list[Token], end: int) -> list[Token]:
    found = (place for place, token in enumerate(row, start=1) if token.id == end)
    return row[: next(found, len(row))]
