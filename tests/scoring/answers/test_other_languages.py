"""Validity and refusals of answers in each supported language."""

import pytest

from mlx_ragtune.records import Answer, Sampling
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.answers.validity import loops
from tests.scoring.made import TITLES, question, unanswerable

SAMPLING = Sampling()
STATED = {
    "de": "Das Wachs hielt die Seile einen Monat lang sauber, danach kamen die Algen zurück.",
    "fr": "La cire a gardé les cordes propres pendant un mois, puis les algues sont revenues.",
    "es": "La cera mantuvo limpias las cuerdas durante un mes, después volvieron las algas.",
    "it": "La cera ha tenuto pulite le corde per un mese, poi le alghe sono tornate.",
    "zh": "蜡让绳子保持了一个月的清洁，之后藻类又长了回来。",
    "ja": "蝋は一か月のあいだ綱をきれいに保ち、その後に藻が戻った。",
    "ko": "왁스는 한 달 동안 밧줄을 깨끗하게 유지했고 그 뒤에 조류가 돌아왔다.",
}
REFUSED = {
    "de": "Dazu steht in den vorliegenden Arbeiten nichts, deshalb kann ich die Frage nicht beantworten.",
    "fr": "Les articles fournis n'en parlent pas, je ne peux donc pas répondre à la question.",
    "es": "Los artículos proporcionados no hablan de eso, así que no puedo responder a la pregunta.",
    "it": "Gli articoli forniti non ne parlano, quindi non posso rispondere alla domanda.",
    "zh": "所给论文没有谈到这件事，所以我无法回答。",
    "ja": "提供された論文にはそのことが書かれていないため、お答えできません。",
    "ko": "제공된 논문에는 그에 대한 내용이 없어서 답변할 수 없습니다.",
}


def metrics(text: str, *, answerable: bool) -> dict[str, float]:
    asked = question() if answerable else unanswerable()
    answer = Answer("k", asked.id, "tuned", 0, text, "stop", 100, 30, 1.0)
    scored = score_answer(asked, answer, (), TITLES, sampling=SAMPLING)
    assert scored.validity == "ok"
    return scored.metrics


@pytest.mark.parametrize("language", STATED)
def test_an_answer_is_valid_and_does_not_refuse(language: str) -> None:
    assert metrics(STATED[language], answerable=True)["false_refusal"] == 0.0
    assert metrics(STATED[language], answerable=False)["refusal_off_corpus"] == 0.0


@pytest.mark.parametrize("language", REFUSED)
def test_a_refusal_is_valid_and_refuses(language: str) -> None:
    assert metrics(REFUSED[language], answerable=True)["false_refusal"] == 1.0
    assert metrics(REFUSED[language], answerable=False)["refusal_off_corpus"] == 1.0


@pytest.mark.parametrize("language", STATED)
def test_a_sentence_written_three_times_is_a_loop(language: str) -> None:
    assert not loops(STATED[language])
    assert loops(STATED[language] * 3 if language in ("zh", "ja") else f"{STATED[language]} " * 3)
