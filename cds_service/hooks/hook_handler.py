"""Answers hook requests: reads the data, assesses the risks, builds the card, and stores it before it is shown."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifact_store import MemoryCache
from cds_hooks import (
    Card,
    HookError,
    HookRequest,
    HookResponse,
    MalformedRequestError,
    ReceivedRequest,
    UnusablePrefetchError,
)
from cds_service.access.admission import Admission
from cds_service.access.deadlines import DeadlineRunner
from cds_service.access.tokens import Caller
from cds_service.cards.card import Thresholds, build_card
from cds_service.cards.drafts import BUILT_IN, Drafts, read_drafts
from cds_service.config.alert_policy import RATE_WINDOW, AlertPolicy, Shown
from cds_service.config.modes import Mode, ModeBoard
from cds_service.config.settings import Settings
from cds_service.hooks.assessment_cache import MOST, CachedAssessment, Key
from cds_service.hooks.current_pipeline import CurrentPipeline
from cds_service.hooks.estimate_records import estimate_record
from cds_service.hooks.locations import lacks_locations, with_locations
from cds_service.hooks.note_attachments import note_urls, notes_by_url
from cds_service.hooks.prediction_time import prediction_time
from cds_service.hooks.prefetch import complete, has_gaps
from cds_service.hooks.prefetch_parsing import parse_prefetch
from cds_service.hooks.request_trace import RequestTrace, Trace
from cds_service.monitoring.metrics import Metrics
from cds_service.net.gateway import Gateway
from cds_service.services import SERVICES, Service
from cds_service.store.store import CardRecord, Store
from fhir_mapping import ForeignPatientError, InvalidInputError, PatientNotFoundError, PatientRecord, SiteMap
from fhir_mapping.parsing import FhirPrefetch
from risk_model import Assessment, LevelPolicy, Pipeline

LOG = logging.getLogger("riskcards")
# Reasons of `PatientRecord.no_stay`; any other means that it is unknown whether the patient is in hospital.
CERTAINLY_NO_STAY = frozenset({"no-stay", "encounter-not-found"})
_NO_GUIDANCE = HookResponse()
# Shares of the time for an answer after which fetching ends and the assessment starts no more searches for literature;
# the rest is for storing the card.
_FETCHING, _ASSESSING = 0.65, 0.85


@dataclass(frozen=True, slots=True)
class Due:
    """The deadlines of the parts of an answer, of `time.monotonic()`."""

    fetched: float
    assessed: float
    answered: float

    @classmethod
    def of(cls, settings: Settings, spent: float = 0.0) -> Due:
        """The deadlines from now, of which `spent` seconds have already passed."""
        now, seconds = time.monotonic() - spent, settings.deadline_seconds
        return cls(now + _FETCHING * seconds, now + _ASSESSING * seconds, now + seconds)


@dataclass(frozen=True, slots=True)
class _Call:
    """One request with its mode, tasks, client, deadlines and trace."""

    service: Service
    request: HookRequest
    mode: Mode
    tasks: tuple[str, ...]
    """Those of the service that are not off."""
    caller: Caller | None
    due: Due
    trace: Trace = field(default_factory=Trace)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, eq=False)
class HookHandler:
    """HookHandler.open(settings, pipeline, store, metrics, admission).answer(ReceivedRequest(service, body, caller))

    `launches_app`: whether the EHR can launch the SMART app; cards then link it. `on_trace` gets the trace of every
    request; without it none is kept. `clock` gives the time of a request, with time zone.
    """

    settings: Settings
    current: CurrentPipeline
    store: Store
    metrics: Metrics
    admission: Admission
    launches_app: bool
    on_trace: Callable[[RequestTrace], None] | None
    clock: Callable[[], datetime]
    modes: ModeBoard
    alert_policy: AlertPolicy
    site_map: SiteMap | None
    drafts: Drafts
    cache: MemoryCache[CachedAssessment]
    steps: DeadlineRunner = field(default_factory=DeadlineRunner)
    _gateways: dict[tuple[str, ...], Gateway] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        settings: Settings,
        pipeline: Pipeline,
        store: Store,
        metrics: Metrics,
        admission: Admission,
        *,
        launches_app: bool = False,
        on_trace: Callable[[RequestTrace], None] | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> HookHandler:
        """Raises an error for a site map or suggestions file that cannot be read: local codes would be unknown."""
        return cls(
            settings=settings,
            current=CurrentPipeline(pipeline),
            store=store,
            metrics=metrics,
            admission=admission,
            launches_app=launches_app,
            on_trace=on_trace,
            clock=clock,
            modes=ModeBoard(store, Mode(settings.mode)),
            alert_policy=settings.alert_policy(),
            site_map=SiteMap.open(settings.site_map) if settings.site_map else None,
            drafts=read_drafts(Path(settings.suggestions)) if settings.suggestions else BUILT_IN,
            cache=MemoryCache(MOST, settings.remember_seconds),
        )

    @property
    def pipeline(self) -> Pipeline:
        """The one in use now; see CurrentPipeline."""
        return self.current.pipeline

    def gateway(self, caller: Caller | None) -> Gateway:
        """The gateway to this client's FHIR servers, never to those of another client."""
        servers = self.settings.fhir_servers if caller is None else caller.client.fhir_servers
        if servers not in self._gateways:
            self._gateways[servers] = Gateway(servers, self.settings.fetch_seconds, self.settings.private_networks)
        return self._gateways[servers]

    def preview(self, service: Service, body: bytes) -> tuple[Assessment, ...]:
        """The assessments of a request without a card; encoded notes and opened models stay cached."""
        tasks = self.modes.active(service.tasks, None)
        request = ReceivedRequest(service, body).open().read_prefetch(parse_prefetch)
        call = _Call(service, request, Mode.SILENT, tasks, None, Due.of(self.settings))
        prefetch = complete(call.request, service, self.gateway(None))
        record = self._record(call, prefetch, prefetch.encounter(call.request.encounter_id))
        if record.current_stay is None:
            return ()
        return tuple(self.pipeline.assess(record, task) for task in tasks)

    def answer(self, received: ReceivedRequest) -> HookResponse:
        """The cards for one request of a service of ours, within the deadlines of the settings.

        Raises HookError for a request that cannot be answered, such as OverloadedError, and StoreError where the card
        could not be stored in time: what is not stored is not shown.
        """
        trace, due = Trace(len(received.body)), Due.of(self.settings, received.seconds)
        try:
            return self._answer(received, due, trace)
        except HookError as error:
            trace.result = f"status-{error.status}"
            raise
        finally:
            caller = received.caller
            client, tenant = (caller.client.name, caller.tenant) if caller else (None, None)
            LOG.info(
                "hook service=%s client=%s tenant=%s hookInstance=%s result=%s ms=%.0f",
                received.service.id, client, tenant, trace.instance or None, trace.result, trace.milliseconds(),
            )  # fmt: skip

    def _answer(self, received: ReceivedRequest, due: Due, trace: Trace) -> HookResponse:
        """As `answer`; what becomes of the request is left in the trace."""
        service = SERVICES[received.service.id]
        caller: Caller | None = received.caller
        client = "" if caller is None else caller.client.name
        mode, tasks = self.steps.run(due.answered, self._in_force, service, None if caller is None else caller.tenant)
        with self.admission.enter(due.answered, client):
            call = _Call(service, received.open(), mode, tasks, caller, due, trace)
            trace.instance = call.request.hook_instance
            silenced = mode is Mode.OFF or call.request.user_id.partition("/")[0] not in self.settings.roles
            known = None if silenced else self._cached(call)
            card = None if known is None else self._card(call, known)
            if known is None:
                call = replace(call, request=call.request.read_prefetch(parse_prefetch))
        trace.lap("read the request")
        if silenced:
            self._count(call, "off" if mode is Mode.OFF else "role")
            return _NO_GUIDANCE
        if known is None or card is None:
            # Fetching is done outside of admission: it must not take a slot from requests that compute.
            gateway = self.gateway(caller).for_one_hook()
            prefetch = self._completed(call, gateway)
            notes = notes_by_url(call.request, prefetch, gateway, due.fetched)
            trace.prefetch = prefetch
            trace.lap("fetch what did not come")
            with self.admission.enter(due.answered, client):
                known = self._assessed(call, prefetch, notes)
                if known is None:
                    self._count(call, "no-stay")
                    return self._traced(call, (), _NO_GUIDANCE)
                card = self._card(call, known)
        trace.record = known.record
        answer = self._stored(call, known, card)
        trace.lap("build and keep the card")
        return self._traced(call, known.assessments, answer)

    def _count(self, call: _Call, result: str) -> None:
        call.trace.result = result
        self.metrics.answered(call.service.id, result)

    def _in_force(self, service: Service, tenant: str | None) -> tuple[Mode, tuple[str, ...]]:
        """(the mode of a service, those of its tasks that are not off); without any task the service is off."""
        tasks = self.modes.active(service.tasks, tenant)
        return self.modes.of(service.id, tenant) if tasks else Mode.OFF, tasks

    def _traced(self, call: _Call, assessments: tuple[Assessment, ...], answer: HookResponse) -> HookResponse:
        """The answer, after its trace, without the token, was given to `on_trace`."""
        if self.on_trace is not None and call.trace.record is not None:
            self.on_trace(call.trace.walk(call.service, call.request.without_secrets(), assessments, answer.to_json()))
        return answer

    def _assessed(
        self, call: _Call, prefetch: FhirPrefetch, notes: Callable[[str], dict[str, Any] | None] | None
    ) -> CachedAssessment | None:
        """The record and its estimates; None if there is no inpatient stay. Where that is unknown, they abstain.

        Raises UnusablePrefetchError where the context names a stay that is not in the data.
        """
        request, service, pipeline = call.request, call.service, self.pipeline
        encounter = prefetch.encounter(request.encounter_id)
        record = call.trace.record = self._record(call, prefetch, encounter, notes)
        call.trace.lap("map the chart")
        if record.no_stay in CERTAINLY_NO_STAY:
            # A chart may be opened on a clinic visit, which has no risk to show; an encounter that is not there is an
            # error, in every hook: an empty list would say that there is none.
            if request.encounter_id is not None and (service.hook != "patient-view" or encounter is None):
                kind = "encounter" if service.hook == "patient-view" else "inpatient stay"
                raise UnusablePrefetchError("not-found", f"context.encounterId: no such {kind} in the data")
            return None
        assessments = tuple(pipeline.assess(record, task, call.due.assessed) for task in call.tasks)
        call.trace.lap("assess")
        wanting = has_gaps(request.prefetch, service) or any(note_urls(prefetch))
        wanting = wanting or lacks_locations(prefetch, request.encounter_id)
        known = CachedAssessment(record, assessments, encounter, pipeline, wanting)
        # Findings that a language model is still reading must reach the next answer, so this one is not cached.
        cut = any(assessment.left_out or assessment.waits for assessment in assessments)
        if request.prefetch.sha256 and not cut and not (wanting and self._fetches(call)):
            # Without the parsed resources, which no card needs.
            self.cache.put(_key(call), replace(known, record=record.without_charted()))
        return known

    def _completed(self, call: _Call, gateway: Gateway) -> FhirPrefetch:
        """The prefetch, with gaps and the Locations of the stay fetched where allowed."""
        request, until = call.request, call.due.fetched
        prefetch = complete(request, call.service, gateway, until)
        return with_locations(prefetch, request.encounter_id, gateway, request.fhir_server, request.access_token, until)

    def _fetches(self, call: _Call) -> bool:
        """Whether this request allows fetching: then a repeated one may get what was missing."""
        return bool(call.request.access_token) and self.gateway(call.caller).allows(call.request.fhir_server)

    def _cached(self, call: _Call) -> CachedAssessment | None:
        """The cached assessment of the same bytes by the current pipeline, if it is still valid."""
        known = self.cache.get(_key(call)) if call.request.prefetch.sha256 else None
        if known is None or known.pipeline is not self.pipeline or (known.wanting and self._fetches(call)):
            return None
        at = prediction_time(call.service.hook, known.encounter, self.clock())
        late = (at - known.record.prediction_time).total_seconds()
        return known if 0 <= late < self.settings.remember_seconds else None

    def _card(self, call: _Call, known: CachedAssessment) -> Card:
        service = call.service
        return build_card(
            known.assessments,
            known.record,
            public_url=self.settings.public_url,
            thresholds=Thresholds(
                self.settings.thresholds_of(service.id, service.tasks), LevelPolicy(self.settings.level_follows)
            ),
            drafts=self.drafts,
            save_at=self.clock() if self.settings.offer_risk_assessment else None,
            launches_app=self.launches_app,
            zone=self.settings.zone(),
        )

    def _stored(self, call: _Call, known: CachedAssessment, card: Card) -> HookResponse:
        """The answer, with the card unless it is suppressed, after the card was stored."""
        service, request, caller, due = call.service, call.request, call.caller, call.due
        now = self.clock()
        if card.indicator == "warning" and self.alert_policy.warnings_per_100:
            asker = None if caller is None else caller.asker
            counted = self.steps.run(due.answered, self.store.warned_since, service.id, now - RATE_WINDOW, asker)
            card = replace(card, indicator="info") if self.alert_policy.over_cap(*counted) else card
        stay = known.record.current_stay.source if known.record.current_stay else None
        shown = self._shown(call, stay, known.assessments, card, now)
        estimates = [estimate_record(a.estimate, self.pipeline.models[a.estimate.task]) for a in known.assessments]
        record = CardRecord(
            uuid=card.uuid,
            service=service.id,
            hook_instance=request.hook_instance,
            patient=request.patient_id,
            encounter=stay,
            user=request.user_id,
            indicator=card.indicator,
            shown=shown,
            estimates=estimates,
            suggestions=[suggestion.uuid for suggestion in card.suggestions],
            client=None if caller is None else caller.client.name,
            tenant=None if caller is None else caller.tenant,
        )
        self.steps.run(due.answered, self.store.record_card, record)
        abstained = all(assessment.estimate.abstention for assessment in known.assessments)
        result = "abstained" if abstained else "card"
        self._count(call, result if shown is Shown.SHOWN else shown)
        self.metrics.assessed(service.id, known.assessments, card.indicator if shown is Shown.SHOWN else None)
        return HookResponse((card,)) if shown is Shown.SHOWN else _NO_GUIDANCE

    def _shown(
        self,
        call: _Call,
        stay: str | None,
        assessments: Sequence[Assessment],
        card: Card,
        now: datetime,
    ) -> Shown:
        user = call.request.user_id
        if call.mode is Mode.SILENT or (call.mode is Mode.PILOT and user not in self.settings.pilot_users):
            return Shown.SILENT
        if self.alert_policy.quiet_below_threshold and card.indicator == "info":
            return Shown.BELOW_THRESHOLD
        if not self.alert_policy.snooze_hours:
            return Shown.SHOWN
        scope = (call.request.patient_id, stay, user, call.service.id)
        asker = None if call.caller is None else call.caller.asker
        override = self.steps.run(call.due.answered, self.store.last_override, *scope, asker)
        if self.alert_policy.suppressed(override, [assessment.estimate for assessment in assessments], now):
            return Shown.SUPPRESSED
        return Shown.SHOWN

    def _record(
        self,
        call: _Call,
        prefetch: FhirPrefetch,
        encounter: Mapping[str, Any] | None,
        notes: Callable[[str], dict[str, Any] | None] | None = None,
    ) -> PatientRecord:
        service, request, caller = call.service, call.request, call.caller
        now = self.clock()
        at = prediction_time(service.hook, encounter, now)
        try:
            return PatientRecord.from_prefetch(
                prefetch,
                patient_id=request.patient_id,
                prediction_time=at,
                encounter_id=request.encounter_id,
                expected=prefetch.expected,
                fetch_attachment=notes,
                site_map=self.site_map,
                undated_known=at == now,
            )
        except ForeignPatientError as error:
            self.steps.run(
                call.due.answered,
                self.store.record_event,
                "foreign-patient",
                request.hook_instance,
                {"service": service.id, "client": None if caller is None else caller.client.name},
            )
            # 409 is not among the specification's statuses; 412 fits: the data for an answer is not there.
            raise UnusablePrefetchError("conflict", f"another patient's data in prefetch: {error}") from None
        except PatientNotFoundError as error:
            raise UnusablePrefetchError("not-found", f"prefetch.patient: {error}") from None
        except InvalidInputError as error:
            raise MalformedRequestError("structure", str(error)) from None


def _key(call: _Call) -> Key:
    caller, request = call.caller, call.request
    client = (None, None) if caller is None else (caller.client.name, caller.tenant)
    return (
        *client,
        call.service.id,
        ",".join(call.tasks),
        request.patient_id,
        request.encounter_id,
        request.prefetch.sha256,
    )
