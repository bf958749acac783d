"""Fine-tuned routers: they learn, serve what was learned, and go on after an interruption."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Router
from shared_router.errors import ConfigurationError, DataError
from shared_router.router.card import model_card
from shared_router.training.encoder import load_encoder
from shared_router.training.finetuning.loop import LENGTH_STEP, collate
from shared_router.training.finetuning.settings import FineTuning
from shared_router.training.finetuning.tuned_model import freeze, layers_of, parameter_groups
from tests.material import EASY, HARD, PAIR, known_truth, save_tiny_deberta

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUICK = FineTuning(epochs=2, learning_rate=3e-3, batch_size=16, accumulation=1, precision="float32")
TEXTS = [*EASY, *HARD, "", "x" * 50_000, "ünïcödé 😀\n\n(A) one"]


@pytest.fixture(scope="module")
def tuned(tiny_encoder: str, tiny_cache: Path) -> Router:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(known_truth(300), PAIR, encoder=tiny_encoder, finetune=QUICK)


def test_a_fine_tuned_router_finds_the_truth(tuned: Router) -> None:
    report = tuned.evaluate(known_truth(200, split="validation", seed=1), resamples=20)
    assert report.router["apgr"] > 0.68
    assert tuned.score(HARD).mean() < tuned.score(EASY).mean() - 0.25


def test_its_facts_tell_how_it_was_tuned(tuned: Router) -> None:
    facts = tuned.facts["training"]
    tuning = facts["finetuning"]
    assert 0 < facts["parts"]["tuned"] < 1
    assert (tuning["train_n"], tuning["dev_n"]) == (270, 30)
    assert tuning["best_step"] in {point["step"] for point in tuning["curve"]}
    losses = [point["train_loss"] for point in tuning["curve"] if point["train_loss"]]
    assert losses[-1] < losses[0]
    best = min(tuning["curve"], key=lambda point: point["dev_error"])
    assert best["step"] == tuning["best_step"]
    json.dumps(facts)


def test_its_card_shows_the_loss_curve(tuned: Router) -> None:
    card = model_card(tuned)
    assert "fine-tuned, at most 64 tokens" in card
    assert "Fine-tuned on 270 of these queries in float32, stopped and blended on 30" in card
    first, *_ = tuned.facts["training"]["finetuning"]["curve"]
    assert f"| {first['epoch']:.2f} | {first['train_loss']:.4f} |" in card


def test_a_saved_one_scores_alike(tuned: Router, tmp_path: Path) -> None:
    tuned.save_pretrained(tmp_path / "router")
    again = Router.from_pretrained(tmp_path / "router")
    assert again.score(TEXTS).tobytes() == tuned.score(TEXTS).tobytes()
    assert again.facts == json.loads(json.dumps(tuned.facts))


def test_checkpoints_are_removed_at_the_end(tuned: Router, tiny_cache: Path) -> None:
    assert not list((tiny_cache / "tuning").iterdir())


# -- interruptions ------------------------------------------------------------------------------


def fit_small(encoder: str, told: Callable[..., object] | None = None, **settings: Any) -> Router:
    chosen = FineTuning(
        **(
            {"epochs": 2, "batch_size": 8, "accumulation": 1, "learning_rate": 1e-3, "blend": False}
            | settings
        )
    )
    data = known_truth(60)
    return Router.fit(
        data, PAIR, encoder=encoder, finetune=chosen, int8=False, train_memory=False, progress=told
    )


def stop_after(step: int) -> Callable[[str, int, int], None]:
    def told(stage: str, done: int, total: int) -> None:
        if stage == "tune" and done >= step:
            raise KeyboardInterrupt

    return told


def test_an_interrupted_training_goes_on_to_the_same_weights(
    in_tiny_cache: Path, tiny_encoder: str
) -> None:
    straight = fit_small(tiny_encoder)
    with pytest.raises(KeyboardInterrupt):
        fit_small(tiny_encoder, stop_after(10))  # in the middle of the second epoch
    assert list(in_tiny_cache.glob("tuning/*/checkpoint-*"))
    steps: list[int] = []
    resumed = fit_small(tiny_encoder, lambda stage, done, _: steps.append(done * (stage == "tune")))
    assert min(filter(None, steps)) > 4
    assert not list(in_tiny_cache.glob("tuning/*"))
    np.testing.assert_allclose(resumed.score(TEXTS), straight.score(TEXTS), atol=1e-6)


def test_a_checkpoint_half_written_is_passed_over(in_tiny_cache: Path, tiny_encoder: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit_small(tiny_encoder, stop_after(10))
    newest = max(in_tiny_cache.glob("tuning/*/checkpoint-*"), key=lambda p: int(p.name[11:]))
    torn = newest.with_name("checkpoint-9")
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    shutil.copytree(newest, newest.with_name("checkpoint-12"))
    (newest.with_name("checkpoint-12") / "trainer_state.json").write_text('{"epoch": 1.')
    assert fit_small(tiny_encoder).facts["training"]["finetuning"]["steps"] == 14


@pytest.mark.parametrize(
    ("held", "complaint"),
    [({"notes.txt": "mine"}, "other files"), ({"training.json": '{"digest": "1"}'}, "of another")],
)
def test_checkpoints_of_another_training_are_refused(
    in_tiny_cache: Path, tiny_encoder: str, tmp_path: Path, held: dict[str, str], complaint: str
) -> None:
    for name, content in held.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError, match=f"{complaint}.*name a new or an empty folder"):
        fit_small(tiny_encoder, checkpoints=str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(held)


def test_too_few_queries_are_refused(in_tiny_cache: Path, tiny_encoder: str) -> None:
    with pytest.raises(DataError, match="30 queries; fine-tuning needs at least 40"):
        Router.fit(known_truth(30), PAIR, encoder=tiny_encoder, finetune=True)


# -- other encoders -----------------------------------------------------------------------------


def test_the_papers_encoder_is_tuned_on_the_papers_label(own_cache: Path, tmp_path: Path) -> None:
    """DeBERTa-v3, laid out as on the hub: no safetensors, a SentencePiece model as tokenizer."""
    folder = save_tiny_deberta(tmp_path / "deberta")
    assert not list(folder.glob("*.safetensors"))
    recipe = FineTuning.paper(epochs=1, learning_rate=1e-3)
    router = Router.fit(
        known_truth(60), PAIR, labels="det", encoder=str(folder), finetune=recipe, int8=False
    )
    assert router.facts["training"]["parts"] == {"tuned": 1.0}
    scores = router.score(TEXTS)
    assert ((scores > 0) & (scores < 1)).all()
    assert router.evaluate(known_truth(40, split="validation", seed=1), resamples=2).n == 40


def test_layers_freeze_from_below_and_learn_faster_above(tmp_path: Path) -> None:
    from transformers import DebertaV2Config, DebertaV2Model

    model = DebertaV2Model(
        DebertaV2Config(
            vocab_size=30, hidden_size=8, num_hidden_layers=4, num_attention_heads=2,
            intermediate_size=8, relative_attention=True, pos_att_type=["p2c", "c2p"],
        )
    )  # fmt: skip
    name, layers = layers_of(model)
    assert (name, len(layers)) == ("encoder.layer", 4)
    freeze(model, None)
    learning = {
        key.split(".")[2]
        for key, p in model.named_parameters()
        if p.requires_grad and ".layer." in key
    }
    assert learning == {"2", "3"}
    groups = parameter_groups(model, FineTuning(learning_rate=1e-3, layer_decay=0.5))
    assert {0.5e-3, 1e-3} <= {group["lr"] for group in groups}


def test_an_encoder_without_a_fast_tokenizer_is_refused(own_cache: Path, tmp_path: Path) -> None:
    from transformers import CanineConfig, CanineModel

    CanineModel(
        CanineConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            num_hash_buckets=16, num_hash_functions=2, local_transformer_stride=2,
        )
    ).save_pretrained(tmp_path)  # fmt: skip
    settings = {"tokenizer_class": "CanineTokenizer", "model_max_length": 32}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigurationError, match="no fast version"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("lengths", "most", "padded"), [((3, 20), 512, 32), ((16,), 512, 16), ((5, 40), 40, 40)]
)
def test_a_batch_is_padded_to_few_lengths(lengths: tuple[int, ...], most: int, padded: int) -> None:
    rows = [
        {
            "input_ids": list(range(1, length + 1)),
            "features": np.zeros(2, dtype=np.float32),
            "labels": np.zeros(1, dtype=np.float32),
        }
        for length in lengths
    ]
    batch = collate(rows, most)
    assert batch["input_ids"].shape == (len(lengths), padded)
    assert padded % LENGTH_STEP == 0 or padded == most
    assert batch["attention_mask"].sum(dim=1).tolist() == list(lengths)
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 0).all()


def test_checkpoints_need_a_folder(tiny_encoder: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot hold checkpoints"):
        fit_small(tiny_encoder, checkpoints=str(tmp_path / "file"))
