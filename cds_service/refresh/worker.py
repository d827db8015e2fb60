"""Works off the refresh queue: reads the chart as a card's prefetch would, estimates, stores, and writes back.

A job leaves the queue only after its estimates are stored. A worker that dies leaves it to another; a server that is
busy gets the pause it asks for; what fails again and again is given up with an audit entry, and the ward list says so.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cds_hooks import FetchError, HookError
from cds_service.config.modes import MODE_OF, Mode
from cds_service.hooks.estimate_records import estimate_record
from cds_service.hooks.hook_handler import HookHandler
from cds_service.hooks.stay_faults import certainly_no_stay
from cds_service.net.gateway import GatewayError
from cds_service.refresh.census import Census, read_census
from cds_service.refresh.estimates import FreshEstimates, PatientEstimates, fresh_estimate
from cds_service.refresh.jobs import RefreshJobs
from cds_service.refresh.resource_ids import patient_of
from cds_service.refresh.servers import RefreshServer
from cds_service.smart.chart import FetchedChart, fetch_chart
from cds_service.store.errors import StoreError
from cds_service.store.refresh_queue import TakenJob
from cds_service.store.store import CardRecord
from fhir_mapping import PatientRecord
from risk_model import Assessment

LOG = logging.getLogger("riskcards")
SERVICE, USER = "refresh", "service/refresh"
"""The service and the user of these estimates in the store."""
LEASE = timedelta(minutes=5)
ATTEMPTS = 6
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 3600.0
"""Seconds between two attempts at a patient; each pause is twice the one before."""
CENSUS_SECONDS, FRESH_SECONDS = 60.0, 5.0
"""How old a list of inpatients may be, and where a patient is not on it: of a clinic, hundreds in an hour are not."""
READ_AHEAD = timedelta(minutes=2)
"""After which a patient is estimated again whose notes were still being read."""
_GONE = frozenset({404, 410})


class ChartRefusedError(Exception):
    """A chart that will not be better in a moment; `reason` has no patient data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WritesBack(Protocol):
    """Writes the estimates of a patient to the record. Raises GatewayError, StoreError."""

    def write(
        self, patient: str, record: PatientRecord, assessments: Sequence[Assessment], card: str, token: str
    ) -> None: ...


@dataclass(slots=True)
class Tally:
    """What a worker has done since it began."""

    estimated: int = 0
    left: int = 0
    """Patients who are not in hospital, or not there any more."""
    put_off: int = 0
    given_up: int = 0


class RefreshWorker:
    """RefreshWorker(server, jobs, estimates, handler).step() -> True if there was a job

    Raises GatewayError where the server gives no access or no census: no patient is to blame, and the job waits.
    """

    def __init__(
        self,
        server: RefreshServer,
        jobs: RefreshJobs,
        estimates: FreshEstimates,
        handler: HookHandler,
        write_back: WritesBack | None = None,
    ) -> None:
        self.server, self.jobs, self.estimates, self.handler = server, jobs, estimates, handler
        self.write_back = write_back
        self.tally = Tally()
        self._census: tuple[float, Census] | None = None

    def tasks(self) -> tuple[str, ...]:
        """The tasks that are estimated now; none while the service is off. Raises StoreError."""
        modes, tenant = self.handler.modes, self.server.client.tenant
        if modes.of(MODE_OF, tenant) is Mode.OFF:
            return ()
        return modes.active(self.handler.pipeline.models, tenant)

    def census(self, within: float = CENSUS_SECONDS) -> Census:
        """The inpatients, read anew where that was longer ago than so many seconds. Raises GatewayError."""
        known = self._census
        if known is None or time.monotonic() - known[0] > within:
            server, now = self.server, self.handler.clock()
            found = read_census(
                server.gateway, server.base, server.token(), now, server.deadline(), self.handler.site_map
            )
            self._census = known = (time.monotonic(), found)
        return known[1]

    def step(self) -> bool:
        """Works on the job that has been due longest. Raises GatewayError, StoreError."""
        tasks = self.tasks()
        if not tasks:
            return False  # the kill switch: nothing is read or estimated, and the jobs wait
        token = self.server.token()
        self.census()
        job = self.jobs.queue.take(self.server.name, self.handler.clock(), LEASE)
        if job is None:
            return False
        try:
            if job.attempts > ATTEMPTS:
                raise ChartRefusedError(f"{ATTEMPTS} attempts ended without an estimate")
            self._work(job, tasks, token)
        except GatewayError as error:
            self._failed(job, error)
        except ChartRefusedError as error:
            self._give_up(job, error.reason)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - one chart must not end the estimates of all others
            LOG.error("refresh failed server=%s %s", job.server, error.__class__.__name__)
            self._put_off(job, self._pause(job), error.__class__.__name__, counted=True)
        return True

    def _work(self, job: TakenJob, tasks: Sequence[str], token: str) -> None:
        resource = self.jobs.resource_of(job)
        patient = None if resource is None else self._patient(resource, token)
        if patient is None or patient != resource:
            # A resource of a patient that has a job of its own, or of none.
            if patient is not None:
                self.jobs.add(self.server.name, [patient], self.handler.clock(), at_once=True)
            self.jobs.queue.done(job, self.handler.clock())
            return
        if self._has_left(patient):
            self.estimates.drop(self.server.name, patient)
            self.jobs.queue.done(job, self.handler.clock())
            self.tally.left += 1
            return
        chart = self._chart(patient, token)
        try:
            record = chart.record()
        except HookError as error:
            raise ChartRefusedError(error.diagnostics) from None
        self._estimate(job, patient, record, chart.fetched, tasks, token)

    def _patient(self, resource: str, token: str) -> str | None:
        """The patient of a job's resource; None for a resource that is gone or about no patient."""
        if resource.startswith("Patient/"):
            return resource
        try:
            found = self.server.gateway.fetch(self.server.base, resource, token, self.server.deadline())
        except GatewayError as error:
            if error.status in _GONE:
                return None
            raise
        return patient_of(found, self.server.base)

    def _has_left(self, patient: str) -> bool:
        """Whether a whole census, read anew if need be, does not have the patient."""
        if patient in self.census().patients:
            return False
        census = self.census(FRESH_SECONDS)
        return census.whole and not census.unread and patient not in census.patients

    def _chart(self, patient: str, token: str) -> FetchedChart:
        """The whole chart. Raises GatewayError for one that came in part, because the server was busy."""
        server, identifier = self.server, patient.partition("/")[2]
        try:
            chart = fetch_chart(server.gateway, server.base, token, identifier, None, self.handler)
        except HookError as error:
            raise _cause(error) from None
        for reason in chart.failed.values():
            if isinstance(reason, GatewayError) and reason.is_transient:
                # Estimated without its laboratory values, the patient would look well.
                raise reason
        return chart

    def _estimate(
        self,
        job: TakenJob,
        patient: str,
        record: PatientRecord,
        read: datetime,
        tasks: Sequence[str],
        token: str,
    ) -> None:
        name, pipeline, settings = self.server.name, self.handler.pipeline, self.handler.settings
        if record.current_stay is None and certainly_no_stay(record):
            self.estimates.drop(name, patient)
            self.jobs.queue.done(job, self.handler.clock())
            self.tally.left += 1
            return
        found = [pipeline.assess(record, task) for task in tasks]
        card, stay = str(uuid.uuid4()), record.current_stay.source if record.current_stay else None
        self.handler.store.record_card(
            CardRecord(
                uuid=card,
                service=SERVICE,
                hook_instance=job.place[:36],
                patient=record.subject_id,
                encounter=stay,
                user=USER,
                indicator="info",
                shown="kept",
                estimates=[estimate_record(a.estimate, pipeline.models[a.estimate.task]) for a in found],
                client=name,
                tenant=self.server.client.tenant,
            )
        )
        fresh = {a.estimate.task: fresh_estimate(a, settings) for a in found}
        self.estimates.put(name, patient, PatientEstimates(stay or "", read, card, fresh))
        if self.write_back is not None:
            self.write_back.write(patient, record, found, card, token)
        self.tally.estimated += 1
        if any(assessment.waits for assessment in found) and job.attempts < ATTEMPTS:
            # A language model still reads notes: what it finds belongs into the estimate.
            self.jobs.queue.put_off(job, self.handler.clock() + READ_AHEAD)
        else:
            self.jobs.queue.done(job, self.handler.clock())

    def _failed(self, job: TakenJob, error: GatewayError) -> None:
        if error.status == 401:
            self.server.access.forget()
        if error.is_transient or error.status == 401:
            # A busy server is no fault of the chart, however often it is busy: the old estimates stay, with their age.
            pause = FIRST_PAUSE if error.retry_after is None else error.retry_after
            self._put_off(job, pause, str(error), counted=False)
        else:
            self._give_up(job, f"the FHIR server refused it ({error})")

    def _pause(self, job: TakenJob) -> float:
        return min(FIRST_PAUSE * 2.0 ** (job.attempts - 1), LONGEST_PAUSE)

    def _put_off(self, job: TakenJob, seconds: float, reason: str, *, counted: bool) -> None:
        LOG.info("refresh put off server=%s seconds=%.0f attempt=%d %s", job.server, seconds, job.attempts, reason)
        self.jobs.queue.put_off(job, self.handler.clock() + timedelta(seconds=seconds), counted=counted)
        self.tally.put_off += 1

    def _give_up(self, job: TakenJob, reason: str) -> None:
        """Ends a job that cannot succeed, with an audit entry; the ward list shows the reason and no estimate."""
        resource = self.jobs.resource_of(job)
        LOG.warning("refresh given up server=%s %s", job.server, reason)
        self.handler.store.record_event("refresh-failed", job.place, {"client": job.server, "reason": reason})
        if resource is not None and resource.startswith("Patient/"):
            problem = f"The chart could not be used for an estimate: {reason}."
            self.estimates.put(job.server, resource, PatientEstimates("", self.handler.clock(), "", {}, problem))
        self.jobs.queue.done(job, self.handler.clock())
        self.tally.given_up += 1


def _cause(error: HookError) -> GatewayError:
    """The gateway's error behind that of a chart."""
    cause: object = error.__cause__
    if isinstance(cause, GatewayError):
        return cause
    status = cause.status if isinstance(cause, FetchError) else error.status
    return GatewayError("status", status=status)
