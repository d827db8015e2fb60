"""Every reason for a refusal in the development data is explained in docs/reasons.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.refusals import PAGE, Census, explained, run, unexplained
from fhir_mapping.core.reasons import REASONS

TEXT = PAGE.read_text("utf-8")


@pytest.mark.shared_data
def test_every_reason_that_occurs_is_explained(shared_data: Path) -> None:
    found = run(shared_data, 200)
    assert {name: counted.patients for name, counted in found.items()} == {"synthea": 12, "mimic": 100, "cinc2012": 200}
    assert unexplained(found, TEXT) == []
    assert "no-code" not in found["mimic"].refused


def test_an_unexplained_reason_is_reported() -> None:
    odd = Census()
    odd.refused.update(["no-status", "implausible"])
    assert unexplained({"mimic": odd}, TEXT) == ["mimic: no-status"]


def test_the_page_explains_only_existing_reasons() -> None:
    known = explained(TEXT)
    assert known.keys() == {"synthea", "mimic", "cinc2012"}
    assert known
    assert all(reasons <= REASONS.keys() for reasons in known.values())
