"""What tests are made of: small data sets with a known truth, and a tiny encoder."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.dataset import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.retrieval import RetrievalFacts
from shared_router.testing import fixed_router

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from shared_router import Router

PAIR = ("small", "large")
EASY = ("greet the visitor", "name the capital city", "spell the word", "say good morning")
HARD = ("prove the theorem 17", "integrate x**2 + 3", "factor 1071 = ?", "solve 4x + 7 = 31")
EXTRAS = ("please", "today", "with care", "for a friend", "in short", "as a list", "slowly")


@dataclass
class SeeingScorer:
    """A scorer by the top score of what was retrieved, that keeps what it is given."""

    takes_retrieval = True

    texts: list[str] = field(default_factory=list)
    facts: list[RetrievalFacts | None] = field(default_factory=list)

    def score(
        self, texts: Sequence[str], retrieval: Sequence[RetrievalFacts | None] | None = None
    ) -> NDArray[np.float32]:
        """Score by how far the top score is above 0.5; 0 where there is none."""
        told = list(retrieval or [None] * len(texts))
        self.texts += texts
        self.facts += told
        tops = [None if facts is None else facts.top_score for facts in told]
        return np.array([[0.0 if top is None else top - 0.5] for top in tops], dtype=np.float32)


class Remembering:
    """A fitted scorer that scores each text once: re-deciding needs no new score."""

    def __init__(self, scorer: Any) -> None:
        self.scorer = scorer
        self.known: dict[tuple[str, str | None], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scorer, name)

    def score(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> Any:
        """Score what is not known yet."""
        asked = list(zip(texts, tasks or [None] * len(texts), strict=True))
        for text, task in asked:
            if (text, task) not in self.known:
                named = {} if task is None else {"tasks": [task]}
                self.known[text, task] = self.scorer.score([text], **named)[0]
        return np.array([self.known[one] for one in asked])


def record(
    id_: str, query: str = "a query", split: str = "train", task: str | None = None, **quality: Any
) -> RoutingRecord:
    """Make a record; `quality` maps a model to one number or a list of them."""
    outcomes = {
        name: Outcome(quality=tuple(np.atleast_1d(value))) for name, value in quality.items()
    }
    return RoutingRecord(id=id_, query=query, split=split, task=task, outcomes=outcomes)


def dataset(*records: RoutingRecord, name: str = "made") -> RoutingDataset:
    """Wrap records."""
    return RoutingDataset(tuple(records), name)


def calibrated_router(value: Any = 1.0, candidates: Sequence[str] = PAIR) -> Router:
    """Make a router of fixed scores, calibrated on two queries on which all models are equal."""
    records = [record(id_, split="v", **dict.fromkeys(candidates, 1.0)) for id_ in "ab"]
    return fixed_router(value, candidates=candidates).calibrate(dataset(*records))


def known_truth(n: int, *, split: str = "train", seed: int = 0, noise: bool = False) -> Any:
    """Make queries of two kinds: on easy ones the small model is as good, on hard ones not.

    With `noise`, the outcomes have nothing to do with the text.
    """
    rng = np.random.default_rng(seed)
    records = []
    for i in range(n):
        hard = bool(rng.integers(2))
        words = [str(rng.choice(HARD if hard else EASY)), *rng.choice(EXTRAS, 3), f"no. {i}"]
        wrong = bool(rng.integers(2)) if noise else hard
        small = float(rng.random() < (0.15 if wrong else 0.9))
        large = float(rng.random() < 0.9)
        task = "made/hard" if hard else "made/easy"
        query = " ".join(map(str, words))
        records.append(record(f"{split}-{seed}-{i}", query, split, task, small=small, large=large))
    return dataset(*records, name=f"truth-{split}")


def by_task(n: int, *, split: str = "train", seed: int = 0) -> RoutingDataset:
    """Make queries whose text says nothing, while the task says which model is good.

    In `made/good` the small model is nearly as good as the large one, in `made/bad` it is not, and
    one query in eight is of `other/rare`.
    """
    rng = np.random.default_rng(seed)
    chance = {"made/good": 0.85, "made/bad": 0.3, "other/rare": 0.6}
    records = []
    for i in range(n):
        task = "other/rare" if i % 8 == 7 else str(rng.choice(["made/good", "made/bad"]))
        words = [*rng.choice(EXTRAS, 3), f"no. {i}"]
        small, large = float(rng.random() < chance[task]), float(rng.random() < 0.9)
        query = " ".join(map(str, words))
        records.append(record(f"{split}-{seed}-{i}", query, split, task, small=small, large=large))
    return dataset(*records, name=f"tasks-{split}")


def by_retrieval(
    n: int, *, split: str = "train", seed: int = 0, facts: bool = True
) -> RoutingDataset:
    """Make queries whose text says nothing, while the top score says which model is good.

    Above 0.5 the small model is nearly as good as the large one, below it is not. With
    `facts=False` the same queries and outcomes, without what says so.
    """
    rng = np.random.default_rng(seed)
    records = []
    for i in range(n):
        top, nodes = float(rng.random()), int(rng.integers(1, 6))
        small = float(rng.random() < (0.9 if top > 0.5 else 0.1))
        large, task = float(rng.random() < 0.9), f"made/{'ab'[int(rng.integers(2))]}"
        query = " ".join(map(str, [*rng.choice(EXTRAS, 3), f"no. {i}"]))
        one = record(f"{split}-{seed}-{i}", query, split, task, small=small, large=large)
        told = RetrievalFacts.of([top] * nodes, context_tokens=100 * nodes)
        records.append(one.model_copy(update={"retrieval": told}) if facts else one)
    return dataset(*records, name=f"retrieval-{split}")


def three_models(n: int, *, split: str = "train", seed: int = 0, costs: bool = True) -> Any:
    """Make queries with outcomes of three models: nano, mini and maxi, the dearest last."""
    made = []
    rng = np.random.default_rng(seed + 100)
    usd = {"nano": 0.001, "mini": 0.004, "maxi": 0.01}
    for one in known_truth(n, split=split, seed=seed):
        hard = one.task == "made/hard"
        chance = {"nano": 0.1 if hard else 0.85, "mini": 0.5 if hard else 0.9, "maxi": 0.95}
        outcomes = {
            name: Outcome(
                quality=(float(rng.random() < share),),
                response=(f"{name} answers {one.id}",),
                cost_usd=usd[name] if costs else None,
            )
            for name, share in chance.items()
        }
        made.append(one.model_copy(update={"outcomes": outcomes}))
    return dataset(*made, name=f"three-{split}")


def with_costs(data: RoutingDataset, **costs_usd: float) -> RoutingDataset:
    """Give every outcome of a model the same cost."""

    def priced(one: RoutingRecord) -> RoutingRecord:
        outcomes = {
            name: outcome.model_copy(update={"cost_usd": costs_usd.get(name)})
            for name, outcome in one.outcomes.items()
        }
        return one.model_copy(update={"outcomes": outcomes})

    return RoutingDataset(tuple(map(priced, data)), data.name)


def write_lines(path: Path, lines: Sequence[Any]) -> Path:
    """Write lines of JSON; strings are written as they are."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def filled(schema: dict[str, Any], question: str) -> dict[str, Any]:
    """Fill a JSON schema's required fields from a question."""
    quoted = re.search(r"'([^']+)'", question)
    number = re.search(r"\d+", question)
    values = {
        "string": quoted.group(1) if quoted else "something",
        "integer": int(number.group()) if number else 1,
        "number": float(number.group()) if number else 1.0,
        "boolean": True,
        "array": [],
        "object": {},
    }
    properties = schema.get("properties", {})
    wanted = schema.get("required", [])
    return {name: values[properties[name].get("type", "string")] for name in wanted}


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a router's file and its checksum, as someone who edits on purpose would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def save_tiny_bert(folder: Path, seed: int = 0) -> Path:
    """Save a random one-layer BERT with a word-piece tokenizer, as `transformers` would."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    signs = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = sorted({w for text in (*EASY, *HARD, *EXTRAS) for w in text.split() if w.isalpha()})
    listed = [*special, *signs, *(f"##{sign}" for sign in signs), *(w for w in words if len(w) > 1)]
    vocabulary = {word: i for i, word in enumerate(listed)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(folder)
    return folder


def save_tiny_deberta(folder: Path, seed: int = 0) -> Path:
    """Save a random one-layer DeBERTa-v3 as the paper's lies on the hub.

    Its weights are a `pytorch_model.bin`, its tokenizer a SentencePiece model and nothing else.
    """
    import sentencepiece
    import torch
    from transformers import DebertaV2Config, DebertaV2Model

    folder.mkdir(parents=True)
    corpus = [f"{text} {extra}" for text in (*EASY, *HARD) for extra in EXTRAS] * 4
    with (folder / "spm.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus),
            model_writer=file,
            vocab_size=100,
            hard_vocab_limit=False,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece="[PAD]",
            bos_piece="[CLS]",
            eos_piece="[SEP]",
            unk_piece="[UNK]",
            minloglevel=2,
        )
    settings = {
        "tokenizer_class": "DebertaV2Tokenizer",
        "do_lower_case": False,
        "vocab_type": "spm",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(seed)
    config = DebertaV2Config(
        vocab_size=128,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
    )
    config.save_pretrained(folder)
    torch.save(DebertaV2Model(config).state_dict(), folder / "pytorch_model.bin")
    return folder
