"""The trace of a hook request: what came in, what was made of it, and how long each step took.

Traces are kept only with `HookHandler.on_trace`, which the demo uses for its trace page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from cds_hooks import HookRequest, fill
from cds_service.services import Service
from fhir_mapping import PatientRecord
from fhir_mapping.parsing import FhirPrefetch
from risk_model import Assessment


@dataclass(frozen=True, slots=True)
class Arrived:
    """One prefetch key: its query, what came, and its size."""

    key: str
    query: str
    came: str
    kilobytes: float


@dataclass(slots=True)
class Trace:
    """A trace in the making: Trace(size).lap("map the chart") adds (step, milliseconds since the last lap)."""

    size: int = 0
    instance: str = ""
    """The `hookInstance`, once it is read."""
    result: str = "failed"
    """What the answer is: a card, or why there is none."""
    prefetch: FhirPrefetch | None = None
    record: PatientRecord | None = None
    times: list[tuple[str, float]] = field(default_factory=list)
    _began: float = field(default_factory=perf_counter)
    _last: float = field(default_factory=perf_counter)

    def lap(self, step: str) -> None:
        now = perf_counter()
        self.times.append((step, (now - self._last) * 1000))
        self._last = now

    def milliseconds(self) -> float:
        """Since the request began."""
        return 1000 * (perf_counter() - self._began)

    def walk(
        self, service: Service, asked: HookRequest, assessments: tuple[Assessment, ...], answer: Mapping[str, Any]
    ) -> RequestTrace:
        """The finished trace; of the prefetch it has only what came and its size, no patient data."""
        assert self.record is not None, "a trace is finished only after a record was made"
        came = None if self.prefetch is None else tuple(_arrived(self.prefetch, service, asked))
        record = self.record.without_charted()
        return RequestTrace(service, asked, self.size, came, record, assessments, answer, tuple(self.times))


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """The finished trace of one answer; `asked` has no token and no prefetch, `assessments` is empty without a stay."""

    service: Service
    asked: HookRequest
    size: int
    """Of the request's body, in bytes."""
    arrived: tuple[Arrived, ...] | None
    """None if the assessment came from the cache: the prefetch was not read."""
    record: PatientRecord
    assessments: tuple[Assessment, ...]
    answer: Mapping[str, Any]
    laps: tuple[tuple[str, float], ...]

    @property
    def milliseconds(self) -> float:
        return sum(took for _, took in self.laps)


def _arrived(prefetch: FhirPrefetch, service: Service, asked: HookRequest) -> Iterator[Arrived]:
    context = {"patientId": asked.patient_id, "encounterId": asked.encounter_id, "userId": asked.user_id}
    for key, template in service.prefetch.items():
        count, size = prefetch.measured(key)
        came = "nothing: not fetched" if prefetch.is_missing(key) else _came(count)
        yield Arrived(key, fill(template, context) or template, came, size / 1024)


def _came(count: int | None) -> str:
    if count is None:
        return "1 resource"
    return "none found" if not count else f"{count} resource{'' if count == 1 else 's'}"
