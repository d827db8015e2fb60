"""One hook request answered: read, assess, build the card, keep it, and only then show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cds_service.admission import Admission
from cds_service.cards import build_card
from cds_service.cards.card import Thresholds
from cds_service.cards.drafts import BUILT_IN, read_drafts
from cds_service.gateway import Gateway
from cds_service.hook_request import HookRequest, parse_request
from cds_service.metrics import Metrics
from cds_service.modes import Mode, ModeBoard
from cds_service.outcome import HookError
from cds_service.prediction_time import find_encounter, prediction_time
from cds_service.prefetch import complete
from cds_service.quiet import Shown
from cds_service.records import estimate_record
from cds_service.services import Service
from cds_service.settings import Settings
from cds_service.store import CardRecord, Store
from cds_service.trust.tokens import Caller
from fhir_mapping import ForeignPatientError, InvalidInputError, PatientNotFoundError, PatientRecord, SiteMap
from risk_model import Assessment, Pipeline

_NO_GUIDANCE: dict[str, Any] = {"cards": []}


class Answering:
    """Answering(settings, pipeline, store, metrics, admission).answer(service, body, caller) -> {"cards": [...]}"""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, store: Store, metrics: Metrics, admission: Admission
    ) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.store = store
        self.metrics = metrics
        self.admission = admission
        self.modes = ModeBoard(store, Mode(settings.mode))
        self.quiet = settings.quiet_rules()
        # A site map that cannot be read stops the start: without it local codes would be unknown, silently.
        self.site_map = SiteMap.open(settings.site_map) if settings.site_map else None
        self.drafts = read_drafts(Path(settings.suggestions)) if settings.suggestions else BUILT_IN
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        # Whether an EHR that asks us can launch the app: cards then carry its link.
        self.launches_app = False
        self._gateways: dict[tuple[str, ...], Gateway] = {}

    def gateway(self, caller: Caller | None) -> Gateway:
        """The way to this client's FHIR servers: those of the client's own configuration, never another's."""
        servers = self.settings.fhir_servers if caller is None else caller.client.fhir_servers
        if servers not in self._gateways:
            self._gateways[servers] = Gateway(servers, self.settings.fetch_seconds, self.settings.private_networks)
        return self._gateways[servers]

    def preview(self, service: Service, body: bytes) -> None:
        """Read and assess a request without a card: what was read once (encoded notes, opened models) stays warm."""
        asked = parse_request(body, service)
        record = self._record(asked, service, complete(asked, service, self.gateway(None)), None)
        if record.current_stay is not None:
            for task in service.tasks:
                self.pipeline.assess(record, task)

    def answer(self, service: Service, body: bytes, caller: Caller | None = None) -> dict[str, Any]:
        """The cards for one request. Raises HookError for everything that is not guidance or its honest absence."""
        mode = self.modes.of(service.id, None if caller is None else caller.tenant)
        with self.admission.enter():
            asked = parse_request(body, service)
        if mode is Mode.OFF:
            self.metrics.answered(service.id, "off")
            return _NO_GUIDANCE
        if asked.user_id.partition("/")[0] not in self.settings.roles:
            self.metrics.answered(service.id, "role")
            return _NO_GUIDANCE
        deadline = time.monotonic() + self.settings.deadline_seconds
        # Waiting for another server takes no place from those that compute.
        prefetch = complete(asked, service, self.gateway(caller), deadline)
        with self.admission.enter():
            return self._answer(service, asked, prefetch, mode, caller, deadline)

    def _answer(
        self,
        service: Service,
        asked: HookRequest,
        prefetch: dict[str, Any],
        mode: Mode,
        caller: Caller | None,
        deadline: float,
    ) -> dict[str, Any]:
        record = self._record(asked, service, prefetch, caller)
        if record.current_stay is None:
            if asked.encounter_id is not None and service.hook != "patient-view":
                raise HookError(412, "not-found", "context.encounterId: no such inpatient stay in the data")
            self.metrics.answered(service.id, "no-stay")
            return _NO_GUIDANCE
        assessments = [self.pipeline.assess(record, task, deadline) for task in service.tasks]
        return self._card(service, asked, record, assessments, mode, caller)

    def _card(
        self,
        service: Service,
        asked: HookRequest,
        record: PatientRecord,
        assessments: Sequence[Assessment],
        mode: Mode,
        caller: Caller | None,
    ) -> dict[str, Any]:
        thresholds = Thresholds(self.settings.thresholds_of(service.id, service.tasks))
        now = self.clock()
        card = build_card(
            assessments,
            record,
            public_url=self.settings.public_url,
            thresholds=thresholds,
            drafts=self.drafts,
            save_at=now if self.settings.offer_risk_assessment else None,
            launches_app=self.launches_app,
        )
        if card["indicator"] == "warning" and self.quiet.over_cap(self.store, service.id, now):
            card["indicator"] = "info"
        stay = record.current_stay.source if record.current_stay else None
        shown = self._shown(service, asked, stay, assessments, card, mode, now)
        models = self.pipeline.models
        self.store.record_card(
            CardRecord(
                uuid=card["uuid"],
                service=service.id,
                hook_instance=asked.hook_instance,
                patient=asked.patient_id,
                encounter=stay,
                user=asked.user_id,
                indicator=card["indicator"],
                shown=shown,
                estimates=[estimate_record(a.estimate, models[a.estimate.task]) for a in assessments],
                suggestions=[suggestion["uuid"] for suggestion in card.get("suggestions", ())],
                client=None if caller is None else caller.client.name,
                tenant=None if caller is None else caller.tenant,
            )
        )
        abstained = all(assessment.estimate.abstention for assessment in assessments)
        result = "abstained" if abstained else "card"
        self.metrics.answered(service.id, result if shown is Shown.SHOWN else shown)
        self.metrics.assessed(service.id, assessments, card["indicator"] if shown is Shown.SHOWN else None)
        return {"cards": [card]} if shown is Shown.SHOWN else _NO_GUIDANCE

    def _shown(
        self,
        service: Service,
        asked: HookRequest,
        stay: str | None,
        assessments: Sequence[Assessment],
        card: dict[str, Any],
        mode: Mode,
        now: datetime,
    ) -> Shown:
        if mode is Mode.SILENT or (mode is Mode.PILOT and asked.user_id not in self.settings.pilot_users):
            return Shown.SILENT
        if self.quiet.quiet_below_threshold and card["indicator"] == "info":
            return Shown.BELOW_THRESHOLD
        override = self.store.last_override(asked.patient_id, stay, asked.user_id, service.id)
        if self.quiet.suppressed(override, [assessment.estimate for assessment in assessments], now):
            return Shown.SUPPRESSED
        return Shown.SHOWN

    def _record(
        self, asked: HookRequest, service: Service, prefetch: dict[str, Any], caller: Caller | None
    ) -> PatientRecord:
        at = prediction_time(service.hook, find_encounter(prefetch, asked.encounter_id), self.clock())
        try:
            return PatientRecord.from_prefetch(
                prefetch,
                patient_id=asked.patient_id,
                prediction_time=at,
                encounter_id=asked.encounter_id,
                expected=service.expected(),
                site_map=self.site_map,
            )
        except ForeignPatientError as error:
            self.store.record_event(
                "foreign-patient",
                asked.hook_instance,
                {"service": service.id, "client": None if caller is None else caller.client.name},
            )
            # 409 is not in the specification's list; 412 is true: the data an answer needs are not there.
            raise HookError(412, "conflict", f"another patient's data in prefetch: {error}") from None
        except PatientNotFoundError as error:
            raise HookError(412, "not-found", f"prefetch.patient: {error}") from None
        except InvalidInputError as error:
            raise HookError(400, "structure", str(error)) from None
