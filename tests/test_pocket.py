"""The pocket pair: its questions, its tokenizer, its models and its LangChain wrapper."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoTokenizer

from cookbook.pocket.answering import USD_PER_PARAMETER_TOKEN
from cookbook.pocket.chat import PocketChatModel
from cookbook.pocket.generation import MODELS, answer_all, load_model, parameters_per_token
from cookbook.pocket.questions import CELLS, questions, split_of
from cookbook.pocket.tokenizer import VOCABULARY, build_tokenizer, encode_answer, encode_question

PAIR = ("small", "large")
MEASURED = json.loads((MODELS.parent / "measured.json").read_text())


@pytest.fixture(scope="module")
def models():
    return {name: load_model(MODELS / name) for name in PAIR}


@pytest.fixture(scope="module")
def fresh():
    return questions(600, seed=77)


def test_questions_are_a_function_of_the_seed():
    assert questions(300, seed=5) == questions(300, seed=5)
    assert questions(300, seed=5) != questions(300, seed=6)


def test_questions_are_distinct_and_of_every_cell(fresh):
    assert len({question.id for question in fresh}) == len({q.text for q in fresh}) == len(fresh)
    assert {(question.kind, question.difficulty) for question in fresh} == set(CELLS)


def test_no_text_is_in_both_splits(fresh):
    train = questions(2000, seed=77, split="train")
    assert not {question.text for question in train} & {question.text for question in fresh}
    assert all(split_of(question.text) == "fresh" for question in fresh)


def numbers(words):
    return [int(word) for word in words if word.isdigit()]


ORDINALS = ("first", "second", "third", "fourth", "fifth")
TRUTHS = {
    "addition": lambda words: str(sum(numbers(words))),
    "subtraction": lambda words: str(numbers(words)[0] - numbers(words)[1]),
    "comparison": lambda words: str(
        (max if {"largest", "biggest", "highest"} & set(words) else min)(numbers(words))
    ),
    "letter": lambda words: words[-1][{"first": 0, "second": 1, "last": -1}[words[-4]]],
    "reversing": lambda words: "".join(reversed(words[-1])),
    "sorting": lambda words: "".join(sorted(words[-1])),
    "counting": lambda words: str(sum(letter == words[-3] for letter in words[-1])),
    "lookup": lambda words: str(
        numbers(words)[next(place for place, name in enumerate(ORDINALS) if name in words)]
    ),
}


@pytest.mark.parametrize("kind", TRUTHS)
def test_answers_are_right(fresh, kind):
    for question in (q for q in fresh if q.kind == kind):
        words = question.text.translate(str.maketrans(",.?:", "    ")).split()
        assert question.answer == TRUTHS[kind](words), question.text


@pytest.mark.parametrize("name", PAIR)
def test_the_tokenizer_round_trips_every_question(name, fresh):
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
    for question in fresh:
        ids = tokenizer(question.text)["input_ids"]
        assert ids == encode_question(question.text)[1:-1]
        assert tokenizer.decode(ids) == question.text
        assert tokenizer.decode(encode_answer(question.answer), skip_special_tokens=True) == (
            question.answer
        )


def test_the_chat_template_is_the_prompt_of_training():
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Add 1 and 2."}]
    ids = build_tokenizer().apply_chat_template(
        asked, add_generation_prompt=True, return_dict=False
    )
    assert ids == encode_question("Add 1 and 2.")


def test_unknown_characters_are_marked():
    assert VOCABULARY["<unk>"] in build_tokenizer()("señor")["input_ids"]


@pytest.mark.parametrize("name", PAIR)
def test_accuracy_on_other_fresh_questions_is_what_the_card_says(models, fresh, name):
    answers = answer_all(models[name], [question.text for question in fresh])
    right = sum(a == question.answer for a, question in zip(answers, fresh, strict=True))
    assert right / len(fresh) == pytest.approx(MEASURED[name]["accuracy"], abs=0.06)


def test_the_large_model_is_the_better_one():
    assert MEASURED["large"]["accuracy"] > MEASURED["small"]["accuracy"] + 0.15


def test_the_large_model_costs_ten_times_the_small_one(models):
    small, large = (parameters_per_token(models[name]) for name in PAIR)
    assert large >= 10 * small
    assert (small, large) == tuple(MEASURED[name]["parameters_per_token"] for name in PAIR)


def test_the_pair_takes_at_most_8_megabytes():
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) <= 8e6
    assert not [file for file in MODELS.rglob("*") if file.suffix in {".bin", ".pt", ".pkl"}]


@pytest.mark.parametrize("name", PAIR)
def test_alone_and_in_a_batch_a_model_answers_alike(models, fresh, name):
    texts = [question.text for question in fresh[:40]]
    chat = PocketChatModel(model_name=name)
    alone = [chat.invoke(text).content for text in texts]
    assert sum(a == b for a, b in zip(alone, answer_all(models[name], texts), strict=True)) >= 39


def test_a_stream_is_the_answer_token_by_token(fresh):
    chat = PocketChatModel.large()
    for question in fresh[:20]:
        whole, chunks = chat.invoke(question.text), list(chat.stream(question.text))
        assert "".join(chunk.content for chunk in chunks) == whole.content
        assert all(len(chunk.content) <= 1 for chunk in chunks)
        merged = sum(chunks[1:], chunks[0])
        assert merged.usage_metadata == whole.usage_metadata
        assert merged.response_metadata["cost_usd"] == whole.response_metadata["cost_usd"]


def test_usage_and_cost_follow_the_tokens():
    chat = PocketChatModel.small()
    reply = chat.invoke("What is 3 plus 4?")
    usage = reply.usage_metadata
    assert usage["input_tokens"] == len("What is 3 plus 4?") + 2
    assert usage["output_tokens"] == len(reply.content) + 1
    price = chat.parameters * USD_PER_PARAMETER_TOKEN
    assert reply.response_metadata["cost_usd"] == pytest.approx(usage["total_tokens"] * price)
    assert reply.response_metadata["finish_reason"] == "stop"


def test_samples_differ_and_a_seed_repeats_them():
    chat = PocketChatModel.small(temperature=2.0)
    asked = "Sort the letters of bakolite."
    assert len({chat.invoke(asked).content for _ in range(20)}) > 1
    assert len({chat.invoke(asked, seed=3).content for _ in range(5)}) == 1
    assert len({chat.invoke(asked, seed=seed).content for seed in range(20)}) > 1


def test_max_tokens_and_stop_end_an_answer():
    chat = PocketChatModel.large()
    cut = chat.invoke("Reverse the word bakolit.", max_tokens=2)
    assert (len(cut.content), cut.response_metadata["finish_reason"]) == (2, "length")
    whole = chat.invoke("Reverse the word bakolit.").content
    for mark in (whole[2], whole[2:4], whole[1:5]):
        assert (
            chat.invoke("Reverse the word bakolit.", stop=[mark, "#"]).content
            == (whole[: whole.index(mark)])
        )
    assert chat.invoke("Reverse the word bakolit.", stop=[f"{whole[-2:]}#"]).content == whole


def test_threads_share_a_model(fresh):
    chat = PocketChatModel.large()
    texts = [question.text for question in fresh[:24]]
    with ThreadPoolExecutor(8) as pool:
        together = [reply.content for reply in pool.map(chat.invoke, texts)]
    assert together == [chat.invoke(text).content for text in texts]


def test_two_streams_may_be_read_in_turn():
    chat = PocketChatModel.small()
    pairs = zip(chat.stream("Add 2 and 3."), chat.stream("Add 2 and 3."), strict=True)
    assert all(one.content == other.content for one, other in pairs)


async def test_async_calls_answer_too():
    chat = PocketChatModel.small()
    chunks = [chunk.content async for chunk in chat.astream("Add 2 and 3.")]
    assert "".join(chunks) == (await chat.ainvoke("Add 2 and 3.")).content


def test_a_long_question_is_read_from_its_end():
    reply = PocketChatModel.small().invoke("word " * 100 + "What is 3 plus 4?")
    assert reply.usage_metadata["input_tokens"] == 112


def test_the_models_are_named_to_tracers():
    names = [PocketChatModel(model_name=name)._get_ls_params()["ls_model_name"] for name in PAIR]
    assert names == ["pocket-small", "pocket-large"]


def test_the_card_shows_what_was_measured():
    card = (Path(MODELS).parent / "README.md").read_text()
    shares = [f"{100 * MEASURED[name]['accuracy']:.1f}" for name in PAIR]
    assert f"| right, % | {' | '.join(shares)} |" in card
    assert all(
        earlier <= later for earlier, later in pairwise(MEASURED["large"]["accuracy_interval"])
    )
