"""What was worked out of a prefetch a moment ago: an EHR that fires a hook again sends the same bytes again.

Reading, mapping and estimating are pure: the same bytes for the same patient at the same time give the same record and
the same estimates. So for a minute the answer to the same bytes is taken from here, as of the moment they first came:
nothing can have been added to a record that is the same to the byte. Audit, modes, snoozes and the card's own id are
made anew each time.

The key holds everything that bears on the result, the asking client and tenant first; nothing is found by another
caller, for another patient or through another model. Nothing fetched with a token is ever kept here.
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
    """A record, what was estimated of it by `pipeline`, and the encounter its time was judged by.

    `wanting`: the prefetch lacked something, so whoever may fetch it must try anew.
    """

    record: PatientRecord
    assessments: tuple[Assessment, ...]
    encounter: Mapping[str, Any] | None
    pipeline: object
    wanting: bool


class AssessmentCache:
    """AssessmentCache(60).get(key) -> Known | None   The `most` newest, none older than `seconds`; 0 remembers
    nothing.
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
        """Oldest first, as they were put: the first that is young enough ends it."""
        now = self._clock()
        while self._known and now - next(iter(self._known.values()))[0] >= self._seconds:
            self._known.popitem(last=False)
