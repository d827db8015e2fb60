"""Short-lived assessment cache: an EHR that fires a hook again sends the same prefetch again.

Mapping and estimating are pure functions: the same bytes for the same patient at the same time give the same record and
estimates. So for a minute the assessment of the same bytes is reused, as of the time they first came. Audit entries,
modes, snoozes and card ids are made for each request.

The key has everything that the result depends on, with client and tenant: no other client, patient or model gets the
same entry. Data fetched with a token is never cached.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
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


class AssessmentCache:
    """AssessmentCache(60).get(key) -> CachedAssessment | None

    Keeps the `most` newest entries for `seconds`; 0 seconds disables the cache.
    """

    def __init__(self, seconds: float, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._lock = Lock()
        self._known: OrderedDict[Key, tuple[float, CachedAssessment]] = OrderedDict()

    def get(self, key: Key) -> CachedAssessment | None:
        with self._lock:
            self._forget()
            found = self._known.get(key)
            return None if found is None else found[1]

    def put(self, key: Key, known: CachedAssessment) -> None:
        if self._seconds <= 0:
            return
        with self._lock:
            self._forget()
            self._known[key] = (self._clock(), known)
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def _forget(self) -> None:
        """Removes expired entries; they are in order of insertion."""
        now = self._clock()
        while self._known and now - next(iter(self._known.values()))[0] >= self._seconds:
            self._known.popitem(last=False)
