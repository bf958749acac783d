"""The training loop: transformers' `Trainer`, on a CPU, one GPU, or several under `torchrun`."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.errors import MissingExtraError
from shared_router.training.encoder import export_module, loaded_encoder, source_folder
from shared_router.training.finetuning.settings import FineTuning, Material, Tuned
from shared_router.training.finetuning.tuned_model import parameter_groups, tuned_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.training.encoder import ExportedEncoder
    from shared_router.training.finetuning.joint_outcomes import Objective

    Progress = Callable[[str, int, int], None]

LENGTH_STEP = 16
"""Tokens that batches are padded to a multiple of."""
_LOGGED = (("loss", "train_loss"), ("eval_loss", "dev_loss"), ("eval_error", "dev_error"))


def train_encoder(
    material: Material,
    objective: Objective,
    encoder: ExportedEncoder,
    settings: FineTuning,
    folder: Path,
    seed: int,
    progress: Progress | None,
) -> Tuned:
    """Train, going on from a checkpoint in the folder if there is one; see `finetune`."""
    transformers = _transformers()
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = tuned_model(
            loaded_encoder(source_folder(encoder.name)),
            material.features[material.train],
            objective,
            settings,
        )
        args = _arguments(transformers, material, settings, folder, seed)
        trainer = transformers.Trainer(
            model=model,
            args=args,
            data_collator=partial(collate, most=_longest(material)),
            train_dataset=_Rows(material, objective.targets, material.train),
            eval_dataset=_Rows(material, objective.targets, material.dev),
            optimizers=(torch.optim.AdamW(parameter_groups(model, settings)), None),
            callbacks=_callbacks(transformers, settings, progress),
            compute_metrics=lambda seen: {"error": _error(objective, *seen)},
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
    model = trainer.model.to("cpu").float().eval()
    with args.main_process_first(desc="export"):
        graph = _exported(model, material.features.shape[1])
    return Tuned(
        graph,
        material.dev,
        _predictions(model, objective, material, material.dev),
        _facts(trainer, settings, material),
    )


def _transformers() -> Any:
    try:
        import accelerate  # noqa: F401  (what Trainer runs on)
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "Fine-tuning needs torch, transformers and accelerate: pip install 'hybrid-llm[train]'."
        ) from error
    return transformers


def _arguments(
    transformers: Any, material: Material, settings: FineTuning, folder: Path, seed: int
) -> Any:
    import torch

    cpu = not torch.cuda.is_available()
    steps = _steps_per_epoch(len(material.train), settings)
    every = max(1, math.ceil(steps / settings.evaluations))
    return transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=2 * settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        train_sampling_strategy="group_by_length",
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        bf16=_bfloat16(settings, cpu=cpu),
        use_cpu=cpu,
        ddp_backend="gloo" if cpu and _processes() > 1 else None,
        ddp_find_unused_parameters=False,
        eval_strategy="steps",
        save_strategy="steps",
        logging_strategy="steps",
        eval_steps=every,
        save_steps=every,
        logging_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_error",
        greater_is_better=False,
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
        seed=seed,
    )


def _steps_per_epoch(rows: int, settings: FineTuning) -> int:
    batches = math.ceil(rows / (settings.batch_size * _processes()))
    return max(1, math.ceil(batches / settings.accumulation))


def _processes() -> int:
    """How many processes `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _bfloat16(settings: FineTuning, *, cpu: bool) -> bool:
    """Tell whether to compute in bfloat16: where asked, or where it is native and so faster."""
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    import torch

    if not cpu:
        return bool(torch.cuda.is_bf16_supported())
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(native())


def _callbacks(transformers: Any, settings: FineTuning, progress: Progress | None) -> list[Any]:
    class Told(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if progress is not None and state.is_world_process_zero:
                progress("tune", state.global_step, state.max_steps)

    stopping = transformers.EarlyStoppingCallback(early_stopping_patience=settings.patience)
    return [stopping, Told()]


def _last_checkpoint(folder: Path) -> str | None:
    """Find the newest whole checkpoint: the state is written last."""
    whole = [p.parent for p in folder.glob("checkpoint-*/trainer_state.json") if _is_json(p)]
    newest = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
    return str(newest) if newest else None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


class _Rows:
    """Rows as `Trainer` takes them."""

    def __init__(
        self, material: Material, targets: NDArray[np.float32], rows: NDArray[np.intp]
    ) -> None:
        self._material, self._targets, self._rows = material, targets, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> dict[str, Any]:
        row = self._rows[at]
        return {
            "input_ids": self._material.ids[row],
            "features": self._material.features[row],
            "labels": self._targets[row],
        }


def collate(rows: Sequence[dict[str, Any]], most: int) -> dict[str, Any]:
    """Pad rows to the longest, rounded up to at most `most` tokens.

    The padding's id is never attended to. torch compiles and keeps a kernel for each length it
    meets: few lengths save memory.
    """
    import torch

    longest = max(len(row["input_ids"]) for row in rows)
    longest = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, most)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[at, : len(row["input_ids"])] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    for name in ("features", "labels"):
        if name in rows[0]:
            batch[name] = torch.from_numpy(np.stack([row[name] for row in rows]))
    return batch


def _longest(material: Material) -> int:
    return max(len(ids) for ids in material.ids)


def _error(
    objective: Objective, logits: NDArray[np.float32], targets: NDArray[np.float32]
) -> float:
    """Mean squared error of the label: unlike the loss, it looks at what will be served alone."""
    import torch

    predicted = objective.predict(torch.from_numpy(logits).float()).numpy()
    return float(((predicted - objective.labels(targets)) ** 2).mean())


def _exported(model: Any, n_features: int) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tuned.onnx"
        export_module(model.export_form(), path, "tuned/", n_features=n_features)
        return path.read_bytes()


def _predictions(
    model: Any, objective: Objective, material: Material, rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Predict labels as serving will: in float32, each query alone."""
    import torch

    found, most = [], _longest(material)
    with torch.no_grad():
        for row in rows:
            alone = {"input_ids": material.ids[row], "features": material.features[row]}
            one = collate([alone], most)
            found.append(objective.predict(model(**one)["logits"]).numpy())
    return np.concatenate(found).astype(np.float64)


def _facts(trainer: Any, settings: FineTuning, material: Material) -> dict[str, Any]:
    state = trainer.state
    measured: dict[int, dict[str, Any]] = {}
    for entry in state.log_history:
        empty = {"step": entry["step"], "epoch": round(entry["epoch"], 3), "train_loss": None}
        point = measured.setdefault(entry["step"], empty)
        point |= {key: round(float(entry[name]), 5) for name, key in _LOGGED if name in entry}
    curve = [point for _, point in sorted(measured.items()) if "dev_error" in point]
    return {
        "settings": dataclasses.asdict(settings) | {"checkpoints": None},
        "train_n": len(material.train),
        "dev_n": len(material.dev),
        "precision": "bfloat16" if trainer.args.bf16 else "float32",
        "processes": trainer.args.world_size,
        "steps": state.global_step,
        "best_step": state.best_global_step,
        "curve": curve,
    }
