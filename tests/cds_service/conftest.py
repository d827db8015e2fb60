"""Fixtures of the service's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cds_service.fhir_server import FhirServer, fhir_server


@pytest.fixture
def fhir() -> Iterator[FhirServer]:
    with fhir_server() as state:
        yield state
