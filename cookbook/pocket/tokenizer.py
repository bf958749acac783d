"""The pair's tokenizer: one token a printable ASCII character, and five special ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, ANSWER, UNKNOWN = "<pad>", "<bos>", "<eos>", "<answer>", "<unk>"
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = {
    token: index for index, token in enumerate([PAD, BOS, EOS, ANSWER, UNKNOWN, *CHARACTERS])
}
# The models know single questions only: the last user message is the prompt.
CHAT_TEMPLATE = (
    "{% set asked = messages | selectattr('role', 'equalto', 'user') | list %}"
    "{{ bos_token }}{{ asked[-1]['content'] }}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer that both models share."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([AddedToken(token, special=True) for token in (PAD, BOS, EOS, ANSWER)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        model_max_length=128,
    )


def encode_question(text: str) -> list[int]:
    """Return a prompt's token ids: the question between its two marks."""
    unknown = VOCABULARY[UNKNOWN]
    inner = [VOCABULARY.get(character, unknown) for character in text]
    return [VOCABULARY[BOS], *inner, VOCABULARY[ANSWER]]


def encode_answer(text: str) -> list[int]:
    """Return an answer's token ids with the mark that ends it."""
    return [*(VOCABULARY[character] for character in text), VOCABULARY[EOS]]
