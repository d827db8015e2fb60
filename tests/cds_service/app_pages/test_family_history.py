"""A relative's disease is no proof of the patient's."""

from __future__ import annotations

import pytest

from cds_service.explanations.drivers import _said
from cds_service.explanations.notes import ConceptMentions, Passage, note_key
from risk_model import Driver

PASSAGE = Passage(note_key("DocumentReference/n1"), "Note", "1 Mar 2026", "history", "Mother had ", "hypertension", ".")


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("present", True),
        ("past", True),
        ("family history", False),
        ("denied", False),
        ("planned or possible", False),
        ("uncertain", False),
    ],
)
@pytest.mark.parametrize("by_source", [True, False])
def test_only_what_the_patient_has_supports_a_driver(kind: str, shown: bool, by_source: bool) -> None:
    """A driver "Hypertension" once showed the mother's hypertension as its source."""
    said = ConceptMentions("", "Other" if by_source else "Hypertension", kind, 1, (PASSAGE,))
    sources = ("DocumentReference/n1",) if by_source else ()
    driver = Driver("hypertension", "Hypertension", "recorded", 0.1, False, sources)
    assert (said in _said(driver, (said,))) is shown
