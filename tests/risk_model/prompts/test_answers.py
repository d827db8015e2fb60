from __future__ import annotations

import json

import pytest

from risk_model.core.errors import AnswerError
from risk_model.core.values import Polarity
from risk_model.prompts.answers import AnswerFinding, AnswerValue, ReaderAnswer, complete_json, schema

FULL = ReaderAnswer(
    (AnswerFinding('no "chest" pain', "Chest Pain", Polarity.ABSENT),),
    (AnswerValue("Cr 3.4 mg/dL", "creatinine", 3.4, "mg/dL"), AnswerValue("K 5", "potassium", 5.0)),
    (2,),
    "Creatinine tripled.",
    "high",
)


def test_an_answer_reads_as_it_was_written() -> None:
    assert ReaderAnswer.from_text(FULL.to_text()) == FULL
    assert ReaderAnswer.from_text(ReaderAnswer().to_text()) == ReaderAnswer()


@pytest.mark.parametrize("text", [
    "", "I cannot help with that.", "[]", "{}", "null", '{"findings":[],"values":[]}', FULL.to_text() + "}",
    FULL.to_text().replace('"absent"', '"denied"'), FULL.to_text().replace("3.4,", '"3.4",'),
    FULL.to_text().replace("3.4,", "NaN,"), FULL.to_text().replace("3.4,", "true,"),
    FULL.to_text().replace('"high"', '"none"'),
    FULL.to_text().replace('"Creatinine tripled."', "7"), '{"findings":[{"quote":1}]}', "[" * 100_000,
    ReaderAnswer(FULL.findings * 9).to_text(),
])  # fmt: skip
def test_what_is_no_answer_is_an_error_and_never_an_empty_one(text: str) -> None:
    with pytest.raises(AnswerError):
        ReaderAnswer.from_text(text)


def test_an_error_does_not_repeat_what_the_note_said() -> None:
    with pytest.raises(AnswerError) as caught:
        ReaderAnswer.from_text('{"findings":[{"quote":"SECRET"}]}')
    assert "SECRET" not in str(caught.value)


def test_a_cut_answer_keeps_its_whole_items_wherever_it_was_cut() -> None:
    whole = ReaderAnswer(FULL.findings * 2, FULL.values, (1, 2)).to_text()
    kept = [ReaderAnswer.from_text(complete_json(whole[:length])) for length in range(13, len(whole) + 1)]
    assert [len(answer.findings) for answer in kept] == sorted(len(answer.findings) for answer in kept)
    assert kept[-1] == ReaderAnswer.from_text(whole)
    assert {len(answer.values) for answer in kept} == {0, 1, 2}


def test_the_schema_demands_every_key_and_no_other() -> None:
    plain, asked = schema(0, False), schema(3, True)
    assert plain["required"] == ["findings", "values", "cited"]
    assert asked["required"][-2:] == ["rationale", "risk"]
    assert not asked["additionalProperties"]
    assert json.dumps(asked)
