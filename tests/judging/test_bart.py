"""BARTScore on a tiny random BART, made here."""

from __future__ import annotations

import math
import sys

import pytest

from shared_router.errors import ConfigurationError, DataError, MissingExtraError
from shared_router.judging.bart import BartScore
from shared_router.judging.metric import Clipped, QualityMetric

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "the", "cat", "sat", "on", "a", "mat", "dog"]
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Save a random BART of one layer, 16 wide, with a word tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    target = tmp_path_factory.mktemp("tiny-bart")
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    named = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(target)
    torch.manual_seed(0)
    sizes = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    config = transformers.BartConfig(
        vocab_size=len(WORDS), d_model=16, max_position_embeddings=32, init_std=1.0, **sizes
    )
    transformers.BartForConditionalGeneration(config).save_pretrained(target)
    return target


def by_hand(folder, given, text):
    """Sum the log-probabilities token by token, feeding the decoder its own shifted target."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BartForConditionalGeneration.from_pretrained(folder).eval()
    source = tokenizer(given, return_tensors="pt").input_ids
    target = tokenizer(text).input_ids
    fed = [model.config.decoder_start_token_id, *target[:-1]]
    with torch.inference_mode():
        logits = model(input_ids=source, decoder_input_ids=torch.tensor([fed])).logits[0]
    logs = torch.log_softmax(logits.double(), -1)
    return sum(float(logs[i, token]) for i, token in enumerate(target)) / len(target)


def test_it_is_the_mean_log_likelihood_in_each_direction(folder):
    response, reference = "the cat sat", "a dog sat on the mat"
    precision = BartScore(folder, "precision").score("q", response, reference)
    recall = BartScore(folder, "recall").score("q", response, reference)
    assert precision == pytest.approx(by_hand(folder, reference, response), abs=1e-4)
    assert recall == pytest.approx(by_hand(folder, response, reference), abs=1e-4)
    assert precision != pytest.approx(recall)
    both = BartScore(folder).score("q", response, reference)
    assert both == pytest.approx((precision + recall) / 2)


def test_it_is_unbounded_until_told_otherwise(folder):
    metric = BartScore(folder)
    assert metric.range == (-math.inf, 0)
    assert isinstance(metric, QualityMetric)
    assert Clipped(metric, -0.5, 0).score("q", "cat", "dog") == -0.5


def test_long_empty_and_unknown_texts_are_scored(folder):
    metric = BartScore(folder)
    for response in ("", "the cat " * 100, "never seen"):
        assert metric.score("q", response, "the cat") < 0


def test_what_is_missing_is_said(folder, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="right answer"):
        BartScore(folder).score("q", "r", None)
    with pytest.raises(ConfigurationError, match="direction is"):
        BartScore(folder, "sideways")
    with pytest.raises(ConfigurationError, match="neither the folder"):
        BartScore(tmp_path).score("q", "r", "a")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"hybrid-llm\[train\]"):
        BartScore(folder).score("q", "r", "a")
