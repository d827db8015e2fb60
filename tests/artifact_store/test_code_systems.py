"""Names of code systems: one table for all packages."""

from __future__ import annotations

import pytest

from artifact_store import CodeSystem, canonical_system
from artifact_store.code_systems import _NAMES


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("urn:oid:2.16.840.1.113883.6.1", CodeSystem.LOINC),
        ("1.2.246.537.6.1.1999", CodeSystem.ICD10),  # Finnish exports leave `urn:oid:` out
        ("urn:oid:1.2.208.176.2.4.12", CodeSystem.ICD10),
        ("http://fhir.de/CodeSystem/dimdi/icd-10-gm", CodeSystem.ICD10),
        ("http://fhir.de/CodeSystem/bfarm/icd-10-gm|2024", CodeSystem.ICD10),
        ("http://hl7.org/fhir/sid/icd-10-nl", CodeSystem.ICD10),
        ("HTTP://FHIR.DE/CodeSystem/bfarm/atc", CodeSystem.ATC),
        ("http://snomed.info/sct/83821000000107/version/20250801", CodeSystem.SNOMED),
        (" https://www.nlm.nih.gov/mesh/ ", CodeSystem.MESH),
        ("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-units", CodeSystem.UCUM),
    ],
)
def test_every_name_of_a_system_has_one_uri(name: str, system: str) -> None:
    assert canonical_system(name) == system


@pytest.mark.parametrize("name", ["urn:mine", "", "http://snomed.info.example.org/sct", "x" * 999])
def test_an_unknown_name_is_unchanged(name: str) -> None:
    assert canonical_system(name) == name


def test_a_name_means_one_system_and_a_canonical_uri_itself() -> None:
    names = [name for listed in _NAMES.values() for name in listed]
    assert len(names) == len(set(names))
    assert all(canonical_system(system) == system for system in _NAMES)
