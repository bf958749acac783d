"""Many pocket questions at a time: alone or in any company, an answer is the same."""

import asyncio

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from cookbook.pocket.answering import USD_PER_PARAMETER_TOKEN
from cookbook.pocket.batches import BATCH, BatchedModel
from cookbook.pocket.chat import PocketChatModel
from cookbook.pocket.generation import LONGEST_ANSWER
from cookbook.pocket.questions import questions
from shared_router.records import AnswerSettings

TEXTS = [question.text for question in questions(60, seed=91)]


@pytest.fixture(scope="module")
def sampling():
    return BatchedModel("small", temperature=1.5)


async def asked(model, pairs):
    return await asyncio.gather(*(model(*pair) for pair in pairs))


def said(answer):
    """Leave out log-probabilities: their last digits depend on what shares a batch."""
    return answer.text, answer.usage, answer.settings


async def test_greedy_answers_are_those_of_the_chat_model():
    answers = await asked(BatchedModel("large", temperature=0), [(text, 0) for text in TEXTS])
    chat = PocketChatModel.large()
    same = [chat.invoke(t).text == a.text for t, a in zip(TEXTS, answers, strict=True)]
    assert sum(same) >= len(TEXTS) - 1  # padding may turn a near tie


async def test_a_sample_is_a_function_of_question_and_number(sampling):
    pairs = [(text, sample) for text in TEXTS for sample in range(4)]
    together = await asked(sampling, pairs)
    again = await asked(sampling, pairs[::-1])
    same = [said(a) == said(b) for a, b in zip(together, again[::-1], strict=True)]
    assert sum(same) >= 0.99 * len(pairs)
    assert len({answer.text for answer in together[:4]} | {a.text for a in together[4:8]}) > 2


async def test_another_seed_gives_other_samples(sampling):
    pairs = [(text, 0) for text in TEXTS]
    other = BatchedModel("small", temperature=1.5, seed=1)
    found = [[answer.text for answer in await asked(each, pairs)] for each in (sampling, other)]
    assert found[0] != found[1]


async def test_more_than_a_batch_is_answered_too(sampling):
    answers = await asked(sampling, [(TEXTS[0], sample) for sample in range(BATCH + 5)])
    assert len(answers) == BATCH + 5


async def test_usage_counts_tokens_and_compute(sampling):
    (answer,) = await asked(BatchedModel("small", temperature=0), [("What is 3 plus 4?", 0)])
    usage = answer.usage
    assert usage.input_tokens == len("What is 3 plus 4?") + 2
    assert usage.output_tokens == len(answer.text) + 1
    price = PocketChatModel.small().parameters * USD_PER_PARAMETER_TOKEN
    total = usage.input_tokens + usage.output_tokens
    assert usage.cost_usd == pytest.approx(total * price)


async def test_log_probabilities_are_those_of_the_chat_model():
    model = BatchedModel("small", temperature=0)
    for answer, text in zip(await asked(model, [(t, 0) for t in TEXTS[:8]]), TEXTS, strict=False):
        reply = PocketChatModel.small(logprobs=True).invoke(text)
        told = [each["logprob"] for each in reply.response_metadata["logprobs"]["content"]]
        assert answer.text == reply.text
        assert answer.logprobs == pytest.approx(told, abs=1e-4)
        assert len(told) == answer.usage.output_tokens
        assert answer.settings == AnswerSettings(
            model="pocket-small", temperature=0, max_tokens=LONGEST_ANSWER, logprobs=True
        )


async def test_a_cancelled_caller_harms_no_other(sampling):
    gone = asyncio.create_task(sampling(TEXTS[0], 0))
    stays = asyncio.create_task(sampling(TEXTS[1], 0))
    await asyncio.sleep(0)
    gone.cancel()
    assert said(await stays) == said(await sampling(TEXTS[1], 0))


async def test_an_error_reaches_every_caller_and_the_next_batch_works(sampling, monkeypatch):
    def broken(pairs):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "answer", broken)
        found = await asyncio.gather(*(sampling(t, 0) for t in TEXTS[:3]), return_exceptions=True)
    assert all(isinstance(error, RuntimeError) for error in found)
    assert (await sampling(TEXTS[0], 0)).usage.output_tokens
