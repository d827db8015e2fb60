"""Short-lived assessment cache: an EHR that fires a hook again sends the same prefetch again.

Mapping and estimating are pure functions: the same bytes for the same patient at the same time give the same record and
estimates. So for a minute the assessment of the same bytes is reused, as of the time they first came. Audit entries,
modes, snoozes and card ids are made for each request.

The key has everything that the result depends on, with client and tenant: no other client, patient or model gets the
same entry. Data fetched with a token is never cached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhir_mapping import PatientRecord
from risk_model import Assessment

MOST = 16

Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class CachedAssessment:
    """A record, its assessments by `pipeline`, and the encounter that set its prediction time.

    `wanting`: the prefetch had gaps, so a request that may fetch them must not use this entry.
    """

    record: PatientRecord
    assessments: tuple[Assessment, ...]
    encounter: Mapping[str, Any] | None
    pipeline: object
    wanting: bool
