"""Examples: the record is the label, styles are split before notes are, and the metric counts what it says."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from importlib.resources import files
from random import Random

import numpy as np
import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.terminology.note_terms import note_phrases
from knowledge_index import KnowledgeIndex
from risk_model.core.values import NoteFindings
from risk_model.llm_tuning.example_sources import from_notes, from_records, generated_examples
from risk_model.llm_tuning.examples import FIELDS, ReaderExample, scores, status, summary
from risk_model.llm_tuning.note_writer import PARTS, STATUSES, Style, drawn, facts_of, table, write
from risk_model.notes.rule_reader import RuleNoteReader
from risk_model.prompts.answers import ReaderAnswer
from risk_model.prompts.note_prompt import Prompt, Window


@pytest.fixture(scope="module")
def index() -> KnowledgeIndex:
    return KnowledgeIndex.open_starter()


@pytest.fixture(scope="module")
def rules(index: KnowledgeIndex) -> RuleNoteReader:
    return RuleNoteReader(index, embed=False)


@pytest.fixture(scope="module")
def patient() -> PatientRecord:
    shipped = files("cds_service.demo").joinpath("patients", "gi-bleed-diabetes.json.gz")
    return PatientRecord.from_json(gzip.decompress(shipped.read_bytes()))


@pytest.mark.parametrize("part", PARTS)
def test_every_quote_stands_where_the_label_says(index: KnowledgeIndex, part: str) -> None:
    for example in generated_examples(index, part, 150):
        for item in (*example.mentions, *example.stated):
            assert example.text[item.start : item.end] == item.quote


def test_every_sentence_of_every_style_can_be_written_and_read_back(index: KnowledgeIndex) -> None:
    """Each alone, so that none hides behind another; a stated number stands in its own quote."""
    names = {ui: concept.name for ui in table().findings if (concept := index.concept(ui))}
    assert names.keys() == table().findings.keys()
    for style in table().styles:
        for kind, sentences in style.sentences.items():
            for sentence in sentences:
                only = replace(style, sentences={name: (sentence,) for name in style.sentences if name == kind})
                example = _of_kind(only, kind, names)
                expected = len(re.findall(r"\{[abc]\}", sentence)), len(re.findall(r"\{(?:old|value)\}", sentence))
                assert (len(example.mentions), len(example.stated)) == expected, sentence
                assert all(f"{s.written:g}" in s.quote.replace(".0", "") for s in example.stated), sentence


def _of_kind(style: Style, kind: str, names: dict[str, str]) -> ReaderExample:
    class One(Random):
        def choices(self, *_: object, **__: object) -> list[str]:  # type: ignore[override]
            return [kind]

    return write(drawn(Random(3)), style, One(5), names)


def test_the_label_matches_the_record(index: KnowledgeIndex) -> None:
    facts = drawn(Random(11))
    names = {ui: concept.name for ui in table().findings if (concept := index.concept(ui))}
    for style in table().styles:
        for number in range(20):
            example = write(facts, style, Random(number), names)
            for m in example.mentions:
                word = status(m.polarity, m.temporality, m.experiencer)
                pool = {"present": facts.present, "past": facts.past}.get(word, facts.others)
                assert m.concept_ui in pool
            for s in example.stated:
                known = facts.measured[s.concept]
                assert min(abs(s.value - v) / max(1, v) for v in known) < 0.06


def test_a_perfect_answer_fits_the_schema_and_the_grammars_numbers(index: KnowledgeIndex) -> None:
    for example in generated_examples(index, "train", 60):
        assert ReaderAnswer.from_text(example.answer().to_text()) == example.answer()
        assert {s.concept for s in example.stated} <= note_phrases().concepts.keys()
        assert example.prompt() == Prompt(Window(example.text, 0, (), "other", "example"))


def test_parts_share_no_sentence_and_no_example(index: KnowledgeIndex) -> None:
    sentences = {part: {s for style in table().of_part(part) for all_ in style.sentences.values() for s in all_}
                 for part in PARTS}  # fmt: skip
    common = {"monitor for {a}", "Monitor for {a}"}
    assert {s.lower() for s in sentences["test"]}.isdisjoint({s.lower() for s in sentences["train"]})
    assert {s.lower() for s in sentences["test"]}.isdisjoint({s.lower() for s in sentences["validation"]})
    assert (sentences["validation"] & sentences["train"]) <= common
    texts = [{example.text for example in generated_examples(index, part, 200)} for part in PARTS]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


def test_the_same_seed_gives_the_same_examples(index: KnowledgeIndex) -> None:
    assert generated_examples(index, "train", 30) == generated_examples(index, "train", 30)
    assert generated_examples(index, "train", 30) != generated_examples(index, "train", 30, seed=8)


def test_notes_state_the_records_conditions_and_measurements(index: KnowledgeIndex, patient: PatientRecord) -> None:
    facts = facts_of(patient, index)
    assert "D006471" in {*facts.present, *facts.past}
    assert not set(facts.others) & {*facts.present, *facts.past}
    examples = from_records([patient], index, "train", each=40)
    present = {m.concept_ui for e in examples for m in e.mentions if (m.polarity, m.temporality, m.experiencer)
            == STATUSES["present"]}  # fmt: skip
    assert present
    assert present <= set(facts.present)


def test_windows_of_notes_are_kept_only_where_record_and_rules_agree(
    index: KnowledgeIndex, rules: RuleNoteReader, patient: PatientRecord
) -> None:
    kept = from_notes(patient, rules, index)
    facts = facts_of(patient, index)
    assert kept
    for example in kept:
        for m in example.mentions:
            assert example.text[m.start : m.end] == m.quote
            word = status(m.polarity, m.temporality, m.experiencer)
            assert word in {"present", "past", "absent", "family"}
            assert word != "absent" or m.concept_ui not in facts.present
        for s in example.stated:
            assert any(item.concept == s.concept for item in patient.measurements)


def test_the_metric_counts_hits_misses_and_inventions(rules: RuleNoteReader, index: KnowledgeIndex) -> None:
    examples = generated_examples(index, "train", 200)
    plain = next(e for e in examples if e.style == "clerking" and e.mentions and e.stated)
    nothing = NoteFindings((), None, "none", 1, 0)
    counts = scores(plain, nothing)
    assert sum(counts[f"expected {field}"] for field in (*FIELDS, "planned")) == len(plain.mentions) + len(plain.stated)
    assert not any(counts[f"found {field}"] or counts[f"read {field}"] for field in FIELDS)
    read = rules.read([ReaderExample("No fever. Has sepsis. Creatinine 2.0 mg/dL.", (), (), "x").note("n")])
    invented = scores(replace(plain, mentions=(), stated=()), read)
    assert invented["read absent"] == invented["read present"] == invented["read value"] == 1
    assert not any(invented[f"right {field}"] for field in FIELDS)


def test_a_reversed_finding_is_a_miss_and_an_invention(rules: RuleNoteReader, index: KnowledgeIndex) -> None:
    for example in generated_examples(index, "train", 300):
        denied = [m for m in example.mentions if status(m.polarity, m.temporality, m.experiencer) == "absent"]
        if denied:
            break
    turned = replace(example, mentions=tuple(
        replace(m, polarity=STATUSES["present"][0]) if m in denied else m for m in example.mentions))  # fmt: skip
    read = rules.read([example.note("n")])
    right, wrong = scores(example, read), scores(turned, read)
    assert right["right absent"] >= wrong["right absent"]
    assert wrong["expected absent"] == 0


def test_the_summary_is_arithmetic() -> None:
    from collections import Counter

    counts = [Counter({"expected present": 2, "found present": 1, "read present": 4, "right present": 1})] * 30
    rates = summary(counts)["present"]
    assert (rates["expected"], rates["recall"], rates["precision"]) == (60, 0.5, 0.25)
    assert rates["f1"] == pytest.approx(1 / 3)
    assert np.ptp(rates["interval"]) == pytest.approx(0)
    assert summary(counts)["family"]["precision"] is None
