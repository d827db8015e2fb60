"""German notes are read by data alone: triggers, names and frequent words are files."""

from __future__ import annotations

import pytest

from benchmarks.note_precision import sign_of
from fhir_mapping import Note
from knowledge_index import KnowledgeIndex
from risk_model import RuleNoteReader
from risk_model.core.values import UnreadNote


@pytest.fixture(scope="module")
def reader() -> RuleNoteReader:
    return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("Kein Diabetes mellitus. Vater mit Schlaganfall.", "-Diabetes mellitus; ~Schlaganfall"),
        ("Patientin mit bekannter Herzinsuffizienz, kein Fieber.", "+Herzinsuffizienz; -Fieber"),
        ("Z. n. Myokardinfarkt 2015. Aktuell Thoraxschmerzen.", "<Myokardinfarkt; +Thoraxschmerzen"),
        ("Verdacht auf Lungenembolie, Pneumonie ausgeschlossen.", "?Lungenembolie; -Pneumonie"),
        ("Ohne Fieber oder Husten, bei bekannter Niereninsuffizienz.", "-Fieber; -Husten; +Niereninsuffizienz"),
        ("Die Mutter hatte Brustkrebs, der Patient hat Hypertonie.", "~Brustkrebs; +Hypertonie"),
        ("Keine Besserung der Dyspnoe.", "+Dyspnoe"),
        ("Patient verneint Übelkeit, klagt aber über Schwindel.", "-Übelkeit; +Schwindel"),
        ("Familienanamnese: Herzinfarkt beim Vater.", "~Herzinfarkt"),
    ],
)
def test_german_findings_in_their_context(reader: RuleNoteReader, text: str, findings: str) -> None:
    read = reader.read([Note("n", "Note", None, text, (), "n", "read")])
    assert "; ".join(sign_of(finding) + finding.quote for finding in read.findings) == findings
    assert read.not_read == (UnreadNote("n", "values-de", part=True),), "values are English, and that is said"
