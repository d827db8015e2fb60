"""What notes say of a driver: never a relative's disease."""

from __future__ import annotations

import pytest

from cds_service.explanations.drivers import _said
from cds_service.explanations.notes import _KINDS, FAMILY_HISTORY, ConceptMentions, Passage, note_key
from risk_model.core.values import Driver

SOURCE = "DocumentReference/n1"


def mentions(kind: str, name: str = "Heart Failure") -> ConceptMentions:
    passage = Passage(note_key(SOURCE), "Admission note", "", "", "Father has ", "heart failure", ".")
    return ConceptMentions("said-1", name, kind, 1, (passage,))


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", ["Heart Failure", "Stroke"])
def test_a_relatives_disease_is_no_proof_of_a_driver(kind: str, name: str) -> None:
    """A father's heart failure was quoted under the driver "heart failure", by name and by its note."""
    driver = Driver("finding.Heart Failure", "Heart Failure", "present", 0.4, False, sources=(SOURCE,))
    found = _said(driver, [mentions(kind, name)])
    assert bool(found) is (kind != FAMILY_HISTORY)
