from __future__ import annotations

import stat
from pathlib import Path

import pytest

from knowledge_index import KnowledgeIndex
from risk_model.core.errors import LanguageModelError
from risk_model.core.values import Experiencer, NoteFindings, Polarity, Temporality
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm_reader.note_reader import LanguageNoteReader
from risk_model.llm_reader.readings_file import ReadingsFile
from risk_model.notes.rule_reader import NoteReader, RuleNoteReader
from risk_model.prompts.answers import AnswerFinding, AnswerValue, ReaderAnswer
from risk_model.prompts.note_prompt import Prompt
from tests.risk_model.language_fakes import SaysModel, breaks, rambles, refuses
from tests.risk_model.note_texts import TEXT, note

RIGHT = ReaderAnswer(
    (
        AnswerFinding("CHF exacerbation", "Heart Failure"),
        AnswerFinding("pnuemonia", "Pneumonia"),
        AnswerFinding("no chest pain", "Chest Pain", Polarity.ABSENT),
        AnswerFinding("breast cancer", "Breast Neoplasms", experiencer=Experiencer.FAMILY),
    ),
    (AnswerValue("Cr 3.4 mg/dL", "creatinine", 3.4, "mg/dL"), AnswerValue("baseline 1.2", "creatinine", 1.2)),
    (1,),
)


@pytest.fixture(scope="module")
def rules() -> RuleNoteReader:
    return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


def read(rules: RuleNoteReader, answer: ReaderAnswer, text: str = TEXT) -> NoteFindings:
    found = LanguageNoteReader(SaysModel(lambda _: answer.to_text()), rules).read([note(text)])
    assert found.language_notes == 1  # not the rules in its place
    return found


def test_an_answer_becomes_the_same_findings_the_rules_give(rules: RuleNoteReader) -> None:
    found = read(rules, RIGHT)
    said = {finding.name: finding for finding in found.findings}
    assert set(said) == {"Heart Failure", "Pneumonia", "Chest Pain", "Breast Neoplasms"}
    assert all(TEXT[f.start : f.end] == f.quote for f in found.findings)
    assert said["Chest Pain"].polarity is Polarity.ABSENT
    assert said["Breast Neoplasms"].experiencer is Experiencer.FAMILY
    assert said["Breast Neoplasms"].section == "family_history"
    assert said["Pneumonia"].quote == "pnuemonia"
    assert (found.language_notes, found.language_failed, found.unanchored_dropped) == (1, 0, 0)
    by_rules = {f.name: (f.concept_ui, f.section) for f in rules.read([note()]).findings}
    assert all((f.concept_ui, f.section) == by_rules[f.name] for f in found.findings if f.name in by_rules)


def test_values_are_the_notes_own_numbers_in_canonical_units(rules: RuleNoteReader) -> None:
    now, before = read(rules, RIGHT).values
    assert (now.concept, now.value, now.unit, now.temporality) == ("creatinine", 3.4, "mg/dL", Temporality.CURRENT)
    assert before.value == 1.2
    assert not before.counts
    mol = read(
        rules, ReaderAnswer(values=(AnswerValue("cr 300 umol/L", "creatinine", 300, "umol/L"),)), "Cr 300 umol/L."
    )
    assert mol.values[0].value == pytest.approx(3.39, abs=0.01)
    pressure = read(
        rules, ReaderAnswer(values=(AnswerValue("BP 88/50", "systolic_bp", 88),)), "BP 88/50, HR 120."
    ).values
    assert [(value.concept, value.value) for value in pressure] == [("systolic_bp", 88.0)]


@pytest.mark.parametrize("answer", [
    ReaderAnswer((AnswerFinding("septic shock", "Shock, Septic"),)),           # words the note does not hold
    ReaderAnswer((AnswerFinding("78 year old", "Sepsis"),)),                    # the note's words, another thing's name
    ReaderAnswer((AnswerFinding("", "Sepsis"),)),
    ReaderAnswer((AnswerFinding("mother had", "the score is low"),)),           # no concept
    ReaderAnswer((AnswerFinding(TEXT, "Heart Failure"),)),                     # all of the note is no quote
    ReaderAnswer(values=(AnswerValue("Cr 3.4 mg/dL", "creatinine", 9.4),)),    # another number
    ReaderAnswer(values=(AnswerValue("K 5.6", "lactate", 5.6),)),              # another concept's number
    ReaderAnswer(values=(AnswerValue("Cr 3.4 mg/dL", "risk_score", 3.4),)),    # no concept
    ReaderAnswer(values=(AnswerValue("baseline 1.2", "temperature", 1.2),)),    # implausible
    ReaderAnswer(values=(AnswerValue("lactate 5.6", "lactate", 5.6),)),        # words the note does not hold
])  # fmt: skip
def test_what_the_note_does_not_say_is_dropped_and_counted(rules: RuleNoteReader, answer: ReaderAnswer) -> None:
    found = read(rules, answer)
    assert (found.findings, found.values, found.unanchored_dropped) == ((), (), 1)


def test_the_same_claim_twice_counts_once(rules: RuleNoteReader) -> None:
    assert len(read(rules, ReaderAnswer((AnswerFinding("pnuemonia", "Pneumonia"),) * 3)).findings) == 1
    twice = read(rules, ReaderAnswer((AnswerFinding("pneumonia", "Pneumonia"),) * 2), "Pneumonia. Known pneumonia.")
    assert [finding.start for finding in twice.findings] == [0, 17]


def test_cited_passages_are_among_those_given(rules: RuleNoteReader) -> None:
    seen: list[Prompt] = []

    def say(prompt: Prompt) -> str:
        seen.append(prompt)
        return ReaderAnswer(cited=(1, 9, 0)).to_text()

    found = LanguageNoteReader(SaysModel(say), rules).read([note()])
    assert 1 <= len(seen[0].passages) <= 4
    assert len(found.cited) == 1
    assert found.cited_dropped == 2
    alone = LanguageNoteReader(SaysModel(say), rules, with_evidence=False).read([note()])
    assert alone.cited == ()
    assert alone.cited_dropped == 3


@pytest.mark.parametrize("say", [refuses, breaks, rambles])
def test_where_the_model_fails_the_rules_read_and_it_is_said(rules: RuleNoteReader, say: object) -> None:
    reader = LanguageNoteReader(SaysModel(say), rules)  # type: ignore[arg-type]
    found = reader.read([note()])
    assert found.findings == rules.read([note()]).findings
    assert (found.language_notes, found.language_failed) == (0, 1)
    with pytest.raises(LanguageModelError) as caught:
        reader.read_note(note())
    assert "SECRET" not in str(caught.value)


def test_a_note_is_asked_about_once_whatever_it_is_called(rules: RuleNoteReader) -> None:
    model = SaysModel(lambda _: RIGHT.to_text())
    reader = LanguageNoteReader(model, rules)
    first = reader.read([note()])
    second = reader.read([note(source="DocumentReference/2")])
    assert model.asked == 1
    assert {finding.note_source for finding in second.findings} == {"DocumentReference/2"}
    assert len(first.findings) == len(second.findings)


def test_a_cut_answer_keeps_what_was_whole(rules: RuleNoteReader) -> None:
    cut = RIGHT.to_text()[: RIGHT.to_text().index("no chest pain") + 3]
    found = LanguageNoteReader(SaysModel(lambda _: cut), rules).read([note()])
    assert {finding.name for finding in found.findings} == {"Heart Failure", "Pneumonia"}


def test_both_readers_are_note_readers(rules: RuleNoteReader) -> None:
    readers: list[NoteReader] = [rules, LanguageNoteReader(SaysModel(rambles), rules)]
    assert [reader.name for reader in readers] == ["rules-3", "language:says"]


def test_a_real_model_reads_and_everything_is_anchored(rules: RuleNoteReader, smollm2: LocalLanguageModel) -> None:
    found = LanguageNoteReader(smollm2, rules, max_tokens=120, with_evidence=False).read([note()])
    assert found.language_notes == 1
    assert all(TEXT[f.start : f.end] == f.quote for f in (*found.findings, *found.values))


def test_what_was_read_before_a_stop_is_not_read_again_and_a_line_that_was_cut_is(
    rules: RuleNoteReader, tmp_path: Path
) -> None:
    kept = tmp_path / "model.readings.jsonl"
    texts = [TEXT, f"{TEXT} Seen again.", f"{TEXT} Seen once more."]
    first = SaysModel(lambda _: RIGHT.to_text())
    said = LanguageNoteReader(first, rules, known=ReadingsFile(kept)).read([note(text) for text in texts])
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join([*lines[:-1], lines[-1][: len(lines[-1]) // 2]]))
    again = SaysModel(lambda _: RIGHT.to_text())
    opened = ReadingsFile(kept)
    assert len(opened) == 2
    assert LanguageNoteReader(again, rules, known=opened).read([note(text) for text in texts]).findings == said.findings
    assert (again.asked, len(ReadingsFile(kept))) == (first.asked // 3, 3)
    other = SaysModel(lambda _: RIGHT.to_text(), fingerprint="says-2")
    LanguageNoteReader(other, rules, known=ReadingsFile(kept)).read([note()])
    assert other.asked


def test_a_note_that_a_model_failed_at_is_asked_about_again(rules: RuleNoteReader, tmp_path: Path) -> None:
    kept = tmp_path / "readings.jsonl"
    assert LanguageNoteReader(SaysModel(refuses), rules, known=ReadingsFile(kept)).read([note()]).language_failed == 1
    assert not ReadingsFile(kept)
    found = LanguageNoteReader(SaysModel(lambda _: RIGHT.to_text()), rules, known=ReadingsFile(kept)).read([note()])
    assert found.language_notes == 1
