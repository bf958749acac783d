"""The pair's model card, written from the measured figures alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared_router.data.output import write_whole

if TYPE_CHECKING:
    from pathlib import Path

TRAINING = """\
The weights here were trained by these commands from scratch, each on one core of a shared machine.
The aim was 45-65 % for the small model and at least 90 % for the large one: it {verdict}."""
_CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# The pocket pair

Two decoder language models (Llama architecture, one token a character) trained from scratch by
`train.py` on the questions of `questions.py`: arithmetic, strings, counting and look-ups in words,
of three difficulties each. They exist so that
collecting, routing and streaming run on two real language models without a key or a network. Their
window is 128 characters, too small for an engine's prompt templates. They answer nothing else: any
other question gets nonsense.

| | small | large |
|---|--:|--:|
{facts}

The large one costs {ratio} times the compute per token (parameters without the embedding table).
{alone:.1%} of the questions only the small one gets right, {neither:.1%} neither.

## Accuracy by kind and difficulty

Percent of {count} fresh questions (seed {seed}) answered exactly, greedy; small / large.

| kind | 1 | 2 | 3 |
|---|--:|--:|--:|
{cells}

- **addition**: one digit and one, up to a sum of 9; any; two digits and one.
- **subtraction**: one digit from one; from a number below 20; from one of two digits.
- **comparison**: two numbers of one digit; three of one digit; two of two digits.
- **letter**: the last, the first, the second of a word of 4 to 7 letters.
- **reversing**: words of 3-4, 5-6, 7 letters. **sorting**: of 3, 4, 5-6.
- **counting**: how often a letter is in a word of 3, 4-5, 6-7.
- **lookup**: the entry at a place in a list of 3, 4-5, 6-7 numbers.

*Fresh* means that the text was kept from training: a fifth of all texts, chosen by hash. The same
sum in other words may have been trained on, which matters where sums are few (difficulty 1).
Words are invented syllables, not a dictionary's.

## Reproduce

    pip install "hybrid-llm[langchain,train]"
    python -m cookbook.pocket.train small      # from the repository's root
    python -m cookbook.pocket.train large
    python -m cookbook.pocket.evaluate         # writes measured.json and this card

Seeds, sizes and steps stand in `RECIPES` of `train.py`. A run that is interrupted resumes from
its checkpoint. Another processor or version of torch rounds differently and ends with
other weights.

{training}

## Use

    from cookbook.pocket.chat import PocketChatModel

    PocketChatModel.small().invoke("Add 3 and 4.")          # LangChain

    from cookbook.pocket.llama_index import PocketLLM

    PocketLLM.small().complete("Add 3 and 4.")              # LlamaIndex

Over HTTP, as OpenAI's API on 127.0.0.1 (`pip install fastapi uvicorn`):

    python -m cookbook.pocket.server --port 8000

    ChatOpenAI(base_url="http://127.0.0.1:8000/v1", model="pocket-small", api_key="none")

Models `pocket-small` and `pocket-large`; greedy unless a temperature is given. In tests and
recipes: `with pocket_server() as url:`. Token counts and cost of `PocketLLM` stand in `raw` and
`additional_kwargs`.

`cost_usd` in `response_metadata` is nominal: $1 for a million tokens through a million parameters.
"""


def write_card(figures: dict[str, Any], path: Path) -> None:
    """Write the card of the measured figures."""
    pair = (figures["small"], figures["large"])
    text = _CARD.format(
        facts="\n".join(_fact_rows(pair)),
        cells="\n".join(_cell_rows(pair)),
        ratio=figures["compute_ratio"],
        alone=figures["only_small_right"],
        neither=figures["neither_right"],
        count=figures["questions"],
        seed=figures["seed"],
        training=TRAINING.format(verdict=_verdict(*pair)),
    )
    write_whole(path, text.encode())


def _verdict(small: dict[str, Any], large: dict[str, Any]) -> str:
    met = 0.45 <= small["accuracy"] <= 0.65 and large["accuracy"] >= 0.9
    return "is met" if met else "is **not met** yet"


def _fact_rows(pair: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    shown = {
        "parameters": [f"{one['parameters']:,}" for one in pair],
        "of them outside the embeddings": [f"{one['parameters_per_token']:,}" for one in pair],
        "weights, KB (float16)": [f"{one['weight_bytes'] / 1000:.0f}" for one in pair],
        "right, %": [f"{100 * one['accuracy']:.1f}" for one in pair],
        "95 % interval": [
            "{:.1f} - {:.1f}".format(*(100 * end for end in one["accuracy_interval"]))
            for one in pair
        ],
    }
    return [f"| {name} | {' | '.join(values)} |" for name, values in shown.items()]


def _cell_rows(pair: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    rows = []
    for kind in pair[0]["cells"]:
        shares = zip(*(one["cells"][kind] for one in pair), strict=True)
        cells = " | ".join(f"{100 * small:.0f} / {100 * large:.0f}" for small, large in shares)
        rows.append(f"| {kind} | {cells} |")
    return rows
