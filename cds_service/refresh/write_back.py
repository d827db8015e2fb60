"""Writes estimates to the record: one RiskAssessment a stay and outcome, updated in place, and its Provenance.

    search by our identifier ─┬─ none ──▶ conditional update, which creates at most one
                              ├─ one ───▶ update with If-Match; 412: read again; another's hand on it: left alone
                              └─ more ──▶ nothing is written, the audit entry says so

Repeated, or after a crash, the same resource is updated again: the identifier is a keyed hash of server, stay and task.
Nothing is written unless the site allows it, the mode is `live` and the task is on, each checked right before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from cds_service.cards.save_offer import provenance
from cds_service.config.modes import MODE_OF, Mode
from cds_service.hooks.hook_handler import HookHandler
from cds_service.net.gateway import GatewayError, Written
from cds_service.refresh.resource_ids import key_of, local_key
from cds_service.refresh.servers import RefreshServer
from fhir_mapping import PatientRecord
from fhir_mapping.core import parse_instant
from risk_model import Assessment, risk_assessment

LOG = logging.getLogger("riskcards")
AUDIT_KIND = "write-back"
ATTEMPTS = 3
"""Times that a resource changed by another between reading and writing is read again."""
_UNSUPPORTED = frozenset({400, 422, 501})
_REMEDY = {
    400: "the server does not take it; try it with --dry-run and show the output to the server's support",
    403: "register the client with system/RiskAssessment.crus and system/Provenance.crus",
    405: "the server does not support conditional update",
    409: "the server reports a conflict",
    412: "another system changed it at the same time; the next estimate tries again",
    422: "the server's validation refuses it; try it with --dry-run and show the output to the server's support",
}
Json = dict[str, Any]


class LeftAloneError(Exception):
    """Nothing is written, for a reason that is no fault of the server."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PlannedWrite:
    """What would be written for one estimate; the Provenance names the RiskAssessment once that has an id."""

    task: str
    value: str
    """The value of our identifier."""
    resource: Json
    assessment: Assessment
    card: str

    @property
    def is_estimate(self) -> bool:
        return self.assessment.estimate.probability is not None


class WriteBack:
    """WriteBack(server, handler).write("Patient/1", record, assessments, card, token)

    Raises GatewayError for a server that is busy or down, and StoreError; whatever else fails is an audit entry.
    """

    def __init__(self, server: RefreshServer, handler: HookHandler) -> None:
        self.server, self.handler = server, handler
        self._system = f"{handler.settings.public_url.rstrip('/')}/risk-assessments"

    def write(
        self, patient: str, record: PatientRecord, assessments: Sequence[Assessment], card: str, token: str
    ) -> None:
        for plan in self.planned(record, assessments, card):
            if not self.is_allowed(plan.task):
                continue
            try:
                self._write(plan, patient, token)
            except LeftAloneError as error:
                self._audit(plan, "left-alone", reason=error.reason)
            except GatewayError as error:
                self._audit(plan, "failed", reason=str(error))
                if error.is_transient or error.status == 401:
                    raise
                remedy = _REMEDY.get(error.status or 0, str(error))
                LOG.warning("not written to server=%s task=%s %s: %s", self.server.name, plan.task, error, remedy)

    def is_allowed(self, task: str) -> bool:
        """Whether estimates of a task may be written now. Raises StoreError."""
        modes, tenant = self.handler.modes, self.server.client.tenant
        live = modes.of(MODE_OF, tenant) is Mode.LIVE and task in modes.active((task,), tenant)
        return self.handler.settings.write_back and live

    def planned(self, record: PatientRecord, assessments: Sequence[Assessment], card: str) -> Iterator[PlannedWrite]:
        """What is to be written for the current stay; nothing without one."""
        stay = record.current_stay
        if stay is None:
            return
        for assessment in assessments:
            task = assessment.estimate.task
            value = self.handler.store.resource_hash(self.server.name, f"{stay.source} {task}")
            yield PlannedWrite(task, value, self._labelled(risk_assessment(assessment), value), assessment, card)

    def provenance_of(self, plan: PlannedWrite, identifier: str, recorded: datetime) -> Json:
        """The Provenance of a RiskAssessment with that id."""
        assessed = {**plan.resource, "id": identifier}
        url = self.handler.settings.public_url
        made = provenance(plan.assessment, assessed, plan.card, url, recorded)
        return self._tagged(made, plan.value)

    def _write(self, plan: PlannedWrite, patient: str, token: str) -> None:
        search = f"identifier={self._token(plan.value)}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                found = self._found(f"RiskAssessment?{search}", plan, token)
            except GatewayError as error:
                if error.status not in _UNSUPPORTED or search.startswith("_tag"):
                    raise
                search = f"_tag={self._token(plan.value)}"  # every server searches by tags, not by this identifier
                found = self._found(f"RiskAssessment?{search}", plan, token)
            known = self._known(found, plan, patient)
            if known is None and not plan.is_estimate:
                return  # an abstention replaces a number in the record, and is none without one
            self._audit(plan, "begun", attempt=attempt)
            try:
                written = self._put(plan, known, search, token)
                break
            except GatewayError as error:
                if error.status != 412 or attempt == ATTEMPTS:
                    raise
        identifier = written.id or (str(known["id"]) if known is not None else None)
        if identifier is None:
            again = self._known(self._found(f"RiskAssessment?{search}", plan, token), plan, patient, written=True)
            identifier = None if again is None else str(again["id"])
        if identifier is None:
            raise GatewayError("no-id", detail="the server does not say where it stored the RiskAssessment")
        made_by = self.provenance_of(plan, identifier, self.handler.clock())
        place = f"Provenance?_tag={self._token(plan.value)}"
        proved = self.server.gateway.update(self.server.base, place, made_by, token, deadline=self.server.deadline())
        self._audit(
            plan, "done", status=written.status, version=written.version, provenance_status=proved.status,
            resource=f"RiskAssessment/{identifier}",
        )  # fmt: skip

    def _put(self, plan: PlannedWrite, known: Mapping[str, Any] | None, search: str, token: str) -> Written:
        server, version = self.server, None if known is None else known.get("meta", {}).get("versionId")
        if known is None or not isinstance(version, str):
            place = f"RiskAssessment?{search}"
            return server.gateway.update(server.base, place, plan.resource, token, deadline=server.deadline())
        place, resource = f"RiskAssessment/{known['id']}", {**plan.resource, "id": known["id"]}
        return server.gateway.update(server.base, place, resource, token, if_match=version, deadline=server.deadline())

    def _found(self, query: str, plan: PlannedWrite, token: str) -> list[Mapping[str, Any]]:
        """The resources with our identifier, whatever else a server answers."""
        server = self.server
        bundle = server.gateway.fetch(server.base, query, token, server.deadline())
        entries = bundle.get("entry")
        listed = [e.get("resource") for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
        own = {"system": self._system, "value": plan.value}
        return [
            resource
            for resource in listed
            if isinstance(resource, dict)
            and (key_of(resource) or "").startswith("RiskAssessment/")
            and any(_has(identifier, own) for identifier in _list(resource.get("identifier")))
        ]

    def _known(
        self, found: list[Mapping[str, Any]], plan: PlannedWrite, patient: str, *, written: bool = False
    ) -> Mapping[str, Any] | None:
        """The one to update, None if there is none. Raises LeftAloneError for what must not be written over."""
        if not found:
            return None
        if len(found) > 1:
            raise LeftAloneError(f"{len(found)} RiskAssessments have our identifier: have all but one removed")
        known = found[0]
        subject = known.get("subject")
        reference = subject.get("reference") if isinstance(subject, Mapping) else None
        if local_key(reference, self.server.base) != patient:
            raise LeftAloneError("the RiskAssessment with our identifier is another patient's")
        if known.get("status") != "final":
            raise LeftAloneError(f"a clinician or another system has set it to {str(known.get('status'))[:20]}")
        before, now = parse_instant(known.get("occurrenceDateTime")), plan.assessment.estimate.prediction_time
        if not written and before is not None and before.earliest > now:
            raise LeftAloneError("the record has a newer estimate")
        return known

    def _labelled(self, resource: Json, value: str) -> Json:
        return self._tagged({**resource, "identifier": [{"system": self._system, "value": value}]}, value)

    def _tagged(self, resource: Json, value: str) -> Json:
        return {**resource, "meta": {**resource["meta"], "tag": [{"system": self._system, "code": value}]}}

    def _token(self, value: str) -> str:
        return quote(f"{self._system}|{value}", safe="")

    def _audit(self, plan: PlannedWrite, phase: str, **more: Any) -> None:
        body = {"client": self.server.name, "task": plan.task, "phase": phase, "card": plan.card, **more}
        self.handler.store.record_event(AUDIT_KIND, plan.value, body)


def _has(identifier: Any, own: Mapping[str, str]) -> bool:
    return isinstance(identifier, dict) and all(identifier.get(name) == value for name, value in own.items())


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
