"""Write-back: one resource a stay and outcome, however often and whatever happens between; nothing unless allowed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fhir.resources.R4B.provenance import Provenance
from fhir.resources.R4B.riskassessment import RiskAssessment

from cds_service.config.modes import TASK
from cds_service.demo.ward.patients import DemoPatient, shipped
from cds_service.net.gateway import GatewayError
from cds_service.refresh.dry_run import dry_run
from cds_service.refresh.servers import WRITTEN_SCOPES
from cds_service.refresh.worker import RefreshWorker
from cds_service.refresh.write_back import WriteBack
from fhir_mapping import PatientRecord
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, Abstention, Assessment
from tests.cds_service.refresh.conftest import NAME, Refreshed
from tests.cds_service.refresh.test_worker import set_mode

TASKS = (IN_HOSPITAL_MORTALITY, READMISSION_30D)


@pytest.fixture(scope="module")
def demo_patient() -> DemoPatient:
    """The one with an estimate of both outcomes."""
    return next(one for one in shipped().patients.values() if one.name.startswith("Griffin"))


@pytest.fixture(scope="module")
def record(demo_patient: DemoPatient) -> PatientRecord:
    from datetime import UTC, datetime

    return PatientRecord.from_resources(demo_patient.chart.resources, demo_patient.id, datetime.now(UTC))


@pytest.fixture(scope="module")
def assessed(app: Any, record: PatientRecord) -> list[Assessment]:
    pipeline = app.extensions["riskcards"].handler.pipeline
    return [pipeline.assess(record, task) for task in TASKS]


class Writer:
    """A site that allows writing, and what its server holds."""

    def __init__(self, fresh: Refreshed, record: PatientRecord, assessed: list[Assessment]) -> None:
        self.fresh, self.record, self.assessed = fresh, record, assessed
        settings = fresh.handler.settings.with_changes(write_back=True)
        self.handler = replace(fresh.handler, settings=settings)
        self.back = WriteBack(fresh.server, self.handler)
        self.patient = f"Patient/{record.subject_id}"

    def write(self, *assessments: Assessment) -> None:
        given = list(assessments) or self.assessed
        self.back.write(self.patient, self.record, given, "card-id", self.fresh.server.token())

    @property
    def risks(self) -> list[dict[str, Any]]:
        return self.fresh.ward.of("RiskAssessment")

    @property
    def writes(self) -> list[str]:
        return [query for query in self.fresh.ward.asked if query.startswith("PUT")]

    def phases(self) -> list[str]:
        entries = self.fresh.store.audit_entries("write-back")
        return [str((entry.body or {})["phase"]) for entry in entries]


@pytest.fixture
def writer(fresh: Refreshed, record: PatientRecord, assessed: list[Assessment]) -> Writer:
    return Writer(fresh, record, assessed)


def test_each_outcome_is_one_resource_and_its_provenance(writer: Writer) -> None:
    before = len(writer.phases())
    writer.write()
    assert len(writer.risks) == len(TASKS)
    for risk in writer.risks:
        RiskAssessment.model_validate(risk)
        assert risk["meta"]["security"][0]["code"] == "AIAST"
        assert risk["subject"] == {"reference": writer.patient}
        assert risk["contained"][0]["resourceType"] == "Device"
    targets = []
    for proof in writer.fresh.ward.of("Provenance"):
        Provenance.model_validate(proof)
        assert proof["meta"]["security"][0]["code"] == "AIAST"
        targets.append(proof["target"][0]["reference"])
    assert sorted(targets) == sorted(f"RiskAssessment/{risk['id']}" for risk in writer.risks)
    assert writer.phases()[before:] == ["begun", "done"] * len(TASKS)


def test_again_and_again_it_is_the_same_resource(writer: Writer) -> None:
    for _ in range(3):
        writer.write()
    assert [risk["meta"]["versionId"] for risk in writer.risks] == ["3", "3"]
    assert len(writer.fresh.ward.of("Provenance")) == len(TASKS)


@pytest.mark.parametrize("place", ["PUT RiskAssessment", "PUT Provenance", "GET RiskAssessment"])
@pytest.mark.parametrize("status", [503, 429])
def test_after_a_failure_in_the_middle_nothing_stands_twice(writer: Writer, place: str, status: int) -> None:
    writer.fresh.ward.faults.append((place, status, {"Retry-After": "3"}))
    with pytest.raises(GatewayError):
        writer.write()
    writer.write()
    assert len(writer.risks) == len(writer.fresh.ward.of("Provenance")) == len(TASKS)


def test_an_answer_that_was_lost_leaves_no_second_resource(writer: Writer) -> None:
    """The server has stored it, and we never heard."""
    stored = writer.fresh.ward.update

    def lost(place: str, resource: dict[str, Any], if_match: str | None) -> tuple[int, dict[str, str]]:
        stored(place, resource, if_match)
        return 500, {}

    writer.fresh.ward.update = lost  # type: ignore[method-assign]
    try:
        with pytest.raises(GatewayError):
            writer.write()
    finally:
        writer.fresh.ward.update = stored  # type: ignore[method-assign]
    assert len(writer.risks) == 1
    writer.write()
    assert len(writer.risks) == len(TASKS)


def test_a_server_that_does_not_say_where_it_stored_is_asked(writer: Writer) -> None:
    stored = writer.fresh.ward.update
    writer.fresh.ward.update = lambda *given: (stored(*given)[0], {})  # type: ignore[method-assign]
    try:
        writer.write()
    finally:
        writer.fresh.ward.update = stored  # type: ignore[method-assign]
    targets = {proof["target"][0]["reference"] for proof in writer.fresh.ward.of("Provenance")}
    assert targets == {f"RiskAssessment/{risk['id']}" for risk in writer.risks}


@pytest.mark.parametrize("mode", ["off", "silent", "pilot"])
def test_only_in_live_mode(writer: Writer, mode: str) -> None:
    set_mode(writer.fresh, mode)
    writer.write()
    assert writer.writes == []
    assert not writer.risks


def test_the_switch_of_a_task_and_the_sites_own_word(writer: Writer) -> None:
    set_mode(writer.fresh, "off", f"{TASK}{READMISSION_30D}")
    writer.write()
    assert len(writer.risks) == 1
    assert "death" in json.dumps(writer.risks[0]["code"]).lower()
    writer.fresh.ward.resources.clear()
    WriteBack(writer.fresh.server, writer.fresh.handler).write(
        writer.patient, writer.record, writer.assessed, "card", writer.fresh.server.token()
    )
    assert not writer.risks, "off by default"


def test_the_switch_is_looked_at_between_two_outcomes(writer: Writer) -> None:
    stored = writer.fresh.ward.update

    def switched(place: str, resource: dict[str, Any], if_match: str | None) -> tuple[int, dict[str, str]]:
        if resource["resourceType"] == "Provenance":
            set_mode(writer.fresh, "off")
        return stored(place, resource, if_match)

    writer.fresh.ward.update = switched  # type: ignore[method-assign]
    try:
        writer.write()
    finally:
        writer.fresh.ward.update = stored  # type: ignore[method-assign]
    assert len(writer.risks) == 1


def test_another_version_is_read_again_and_then_written(writer: Writer) -> None:
    writer.write()
    stored, changed = writer.fresh.ward.update, []

    def raced(place: str, resource: dict[str, Any], if_match: str | None) -> tuple[int, dict[str, str]]:
        if if_match and not changed:
            changed.append(place)
            writer.fresh.ward.put(writer.fresh.ward.resources[place])
        return stored(place, resource, if_match)

    writer.fresh.ward.update = raced  # type: ignore[method-assign]
    try:
        writer.write()
    finally:
        writer.fresh.ward.update = stored  # type: ignore[method-assign]
    assert changed
    assert sorted(risk["meta"]["versionId"] for risk in writer.risks) == ["2", "3"]


def test_a_resource_that_never_rests_is_left_after_three_attempts(writer: Writer) -> None:
    writer.write(writer.assessed[0])
    writer.fresh.ward.faults += [("PUT RiskAssessment", 412, {})] * 3
    writer.write(writer.assessed[0])
    assert writer.phases()[-1] == "failed"
    assert writer.risks[0]["meta"]["versionId"] == "1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "entered-in-error"}, "entered-in-error"), ({"status": "amended"}, "amended"),
        ({"subject": {"reference": "Patient/another"}}, "another patient"),
        ({"subject": None}, "another patient"), ({"occurrenceDateTime": "2099-01-01T00:00:00Z"}, "newer"),
    ],
)  # fmt: skip
def test_what_others_did_to_it_is_left_alone(writer: Writer, change: dict[str, Any], reason: str) -> None:
    writer.write(writer.assessed[0])
    writer.fresh.ward.put(writer.risks[0] | change)
    writer.write(writer.assessed[0])
    assert writer.risks[0]["meta"]["versionId"] == "2"
    entry = writer.fresh.store.audit_entries("write-back")[-1]
    assert entry.body is not None
    assert (entry.body["phase"], reason in entry.body["reason"]) == ("left-alone", True)


def test_two_resources_with_our_identifier_are_reported(writer: Writer) -> None:
    writer.write(writer.assessed[0])
    writer.fresh.ward.put(writer.risks[0] | {"id": "copy"})
    writer.write(writer.assessed[0])
    assert writer.phases()[-1] == "left-alone"
    assert len(writer.risks) == 2


def test_an_abstention_replaces_a_number_and_is_nothing_without_one(writer: Writer) -> None:
    """Otherwise the record kept a number that the model no longer gives."""
    abstains = replace(
        writer.assessed[0],
        estimate=replace(
            writer.assessed[0].estimate, probability=None, interval=None, abstention=Abstention("too-few", "Too few.")
        ),
    )
    writer.write(abstains)
    assert not writer.writes
    writer.write(writer.assessed[0])
    writer.write(abstains)
    (risk,) = writer.risks
    assert "probabilityDecimal" not in risk["prediction"][0]
    assert "too-few" in risk["prediction"][0]["rationale"]


def test_a_server_that_does_not_search_by_identifier_is_searched_by_tag(writer: Writer) -> None:
    writer.fresh.ward.unknown = ("identifier",)
    for _ in range(2):
        writer.write()
    assert [risk["meta"]["versionId"] for risk in writer.risks] == ["2", "2"]


@pytest.mark.parametrize("status", [400, 403, 405, 409, 422])
def test_a_refusal_is_an_audit_entry_with_a_remedy(
    writer: Writer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    writer.fresh.ward.faults.append(("PUT RiskAssessment", status, {}))
    writer.write(writer.assessed[0])
    assert writer.phases()[-1] == "failed"
    assert f"status: {status}: " in caplog.text


def test_no_patient_is_named_in_the_audit_and_the_chain_is_whole(writer: Writer) -> None:
    writer.write()
    entries = writer.fresh.store.audit_entries("write-back")
    assert writer.record.subject_id not in json.dumps([entry.body for entry in entries])
    assert writer.fresh.store.verify_audit().fault is None


def test_the_worker_writes_after_it_has_stored(writer: Writer, demo_patient: DemoPatient) -> None:
    fresh = writer.fresh
    fresh.ward.put(*demo_patient.chart.resources)
    fresh.jobs.add(NAME, [writer.patient], fresh.handler.clock())
    fresh.ward.faults.append(("PUT RiskAssessment", 503, {}))
    worker = RefreshWorker(fresh.server, fresh.jobs, fresh.estimates, writer.handler, writer.back)
    worker.step()
    assert fresh.jobs.queue.waiting(NAME) == 1, "the server was busy: the job is done again"
    assert fresh.estimates.get_many(NAME, [writer.patient])
    job = fresh.jobs.queue.take(NAME, fresh.handler.clock() + 2 * worker_pause(), worker_pause())
    assert job is not None
    fresh.jobs.queue.put_off(job, fresh.handler.clock(), counted=False)
    worker.step()
    assert fresh.jobs.queue.waiting(NAME) == 0
    assert len(writer.risks) == len(fresh.ward.of("Provenance")) == len(TASKS)


def worker_pause() -> Any:
    from datetime import timedelta

    from cds_service.refresh.worker import FIRST_PAUSE

    return timedelta(seconds=FIRST_PAUSE)


def test_a_dry_run_prints_and_leaves_no_trace(writer: Writer, demo_patient: DemoPatient) -> None:
    fresh = writer.fresh
    fresh.ward.put(*demo_patient.chart.resources)
    entries = len(fresh.store.audit_entries())
    worker = RefreshWorker(fresh.server, fresh.jobs, fresh.estimates, fresh.handler)
    found = list(dry_run(worker, WriteBack(fresh.server, fresh.handler), lambda _: None))
    assert [one["resource"]["resourceType"] for one in found] == ["RiskAssessment", "Provenance"] * len(TASKS)
    for one in found:
        (RiskAssessment if "Risk" in one["place"] else Provenance).model_validate(one["resource"])
    assert writer.writes == []
    assert len(fresh.store.audit_entries()) == entries
    assert not fresh.estimates.get_many(NAME, [writer.patient])


def test_writing_asks_for_two_scopes_more(fresh: Refreshed) -> None:
    from cds_service.refresh.servers import refresh_servers

    (reads,) = refresh_servers(fresh.handler.settings)
    reads.token()
    (writes,) = refresh_servers(fresh.handler.settings.with_changes(write_back=True))
    writes.token()
    scopes = [set(form["scope"].split()) for form in fresh.ehr.token_requests]
    assert scopes[1] - scopes[0] == set(WRITTEN_SCOPES)
