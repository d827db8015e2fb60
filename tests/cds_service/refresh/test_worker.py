"""The worker of the refresh queue and its rounds: estimates that are stored, or a reason; no job is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cds_service.background.leases import Leases
from cds_service.config.modes import TASK
from cds_service.demo.ward.patients import DemoPatient, shipped
from cds_service.hooks.estimate_records import replay
from cds_service.net.gateway import GatewayError
from cds_service.refresh import worker as worker_module
from cds_service.refresh.estimates import PatientEstimates
from cds_service.refresh.polling import Poller
from cds_service.refresh.rounds import RefreshRounds
from cds_service.refresh.worker import ATTEMPTS, RefreshWorker
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, Assessment
from tests.cds_service.refresh.conftest import NAME, Refreshed
from tests.cds_service.refresh.ward_server import DAY, inpatient, sodium


@pytest.fixture(scope="module")
def sepsis() -> DemoPatient:
    return next(iter(shipped().patients.values()))


@pytest.fixture
def patient(fresh: Refreshed, sepsis: DemoPatient) -> str:
    """The key of a patient with an estimate, in hospital on the server, with a job."""
    fresh.ward.put(*sepsis.chart.resources)
    fresh.jobs.add(NAME, [f"Patient/{sepsis.id}"], fresh.handler.clock())
    return f"Patient/{sepsis.id}"


def worker_of(fresh: Refreshed) -> RefreshWorker:
    return RefreshWorker(fresh.server, fresh.jobs, fresh.estimates, fresh.handler)


def estimates(fresh: Refreshed, patient: str) -> PatientEstimates | None:
    return fresh.estimates.get_many(NAME, [patient]).get(patient)


def set_mode(fresh: Refreshed, mode: str, service: str = "*") -> None:
    fresh.store.set_mode(service, "*", mode, "test")
    fresh.handler.modes._read = float("-inf")


def test_a_patient_is_estimated_stored_and_can_be_replayed(fresh: Refreshed, patient: str) -> None:
    worker = worker_of(fresh)
    assert worker.step()
    assert not worker.step()
    found = estimates(fresh, patient)
    assert found is not None
    assert set(found.tasks) == {IN_HOSPITAL_MORTALITY, READMISSION_30D}
    shown = found.tasks[IN_HOSPITAL_MORTALITY]
    assert shown.probability is not None
    assert shown.interval is not None
    assert shown.why.startswith("Raises: ")
    assert "\\" not in shown.why
    record = fresh.store.card_record(found.card)
    assert record is not None
    assert (record["service"], record["shown"], record["client"]) == ("refresh", "kept", NAME)
    models = fresh.handler.pipeline.models
    assert all(replay(each, models[each["task"]]).same for each in record["estimates"])
    assert fresh.jobs.queue.waiting(NAME) == 0


def test_refreshes_are_no_alerts(fresh: Refreshed, patient: str) -> None:
    since = fresh.handler.clock()
    worker_of(fresh).step()
    assert fresh.store.history.counts(since) == []
    assert fresh.store.history.estimates(since) == []
    assert fresh.store.verify_audit().fault is None


def test_the_estimate_in_the_store_names_no_patient(fresh: Refreshed, patient: str) -> None:
    worker_of(fresh).step()
    with fresh.store._engine.begin() as connection:
        rows = connection.exec_driver_sql("SELECT kind, fingerprint, body FROM sealed WHERE kind = 'estimate'").all()
    assert len(rows) == 1
    assert patient.partition("/")[2] not in json.dumps([list(row) for row in rows])


def test_a_resource_is_traced_to_its_patient_once(fresh: Refreshed, patient: str) -> None:
    fresh.queued()
    own = [r for r in fresh.ward.of("Observation") if r["subject"]["reference"] == patient][:3]
    fresh.jobs.add(NAME, [f"Observation/{one['id']}" for one in own], fresh.handler.clock())
    worker = worker_of(fresh)
    while worker.step():
        pass
    assert worker.tally.estimated == 1
    assert estimates(fresh, patient) is not None


@pytest.mark.parametrize("resource", ["Observation/gone", "Location/here", "Observation/of-a-group"])
def test_a_resource_of_no_patient_is_done(fresh: Refreshed, resource: str) -> None:
    fresh.ward.put({"resourceType": "Location", "id": "here"})
    fresh.ward.put(sodium("x", 1, fresh.ward.now) | {"id": "of-a-group", "subject": {"reference": "Group/1"}})
    fresh.jobs.add(NAME, [resource], fresh.handler.clock())
    assert worker_of(fresh).step()
    assert fresh.jobs.queue.waiting(NAME) == 0


def test_while_the_mode_is_off_nothing_is_read_and_the_job_waits(fresh: Refreshed, patient: str) -> None:
    set_mode(fresh, "off")
    worker = worker_of(fresh)
    assert not worker.step()
    assert not fresh.ehr.asked
    assert fresh.jobs.queue.waiting(NAME) == 1
    set_mode(fresh, "silent")
    assert worker.step()
    assert estimates(fresh, patient) is not None, "silent: estimated and kept"


def test_a_task_that_is_off_is_not_estimated(fresh: Refreshed, patient: str) -> None:
    set_mode(fresh, "off", f"{TASK}{READMISSION_30D}")
    worker_of(fresh).step()
    found = estimates(fresh, patient)
    assert found is not None
    assert set(found.tasks) == {IN_HOSPITAL_MORTALITY}


def test_a_patient_after_discharge_loses_the_estimate(fresh: Refreshed, patient: str) -> None:
    worker = worker_of(fresh)
    worker.step()
    stay = next(r for r in fresh.ward.of("Encounter") if r["status"] == "in-progress")
    fresh.ward.put(stay | {"status": "finished", "period": stay["period"] | {"end": "2026-11-30T00:00:00+00:00"}})
    fresh.jobs.add(NAME, [patient], fresh.handler.clock())
    fresh.ward.asked.clear()
    assert worker_of(fresh).step()
    assert estimates(fresh, patient) is None
    assert not [query for query in fresh.ward.asked if query.startswith("GET Observation")], "the chart is not read"


def test_outpatients_cost_one_search_together(fresh: Refreshed, patient: str) -> None:
    """Every clinic visit changes an Encounter."""
    fresh.queued()
    fresh.jobs.add(NAME, [f"Patient/out{number}" for number in range(20)], fresh.handler.clock())
    worker = worker_of(fresh)
    while worker.step():
        pass
    assert worker.tally.left == 20
    assert len(fresh.ward.asked) <= 2


BUSY = [(429, {"Retry-After": "40"}, 40.0), (503, {}, 15.0), (429, {"Retry-After": "soon"}, 15.0), (500, {}, 15.0)]


@pytest.mark.parametrize(("status", "headers", "pause"), BUSY)
@pytest.mark.parametrize("query", ["GET Observation", "GET Patient/", "GET DocumentReference"])
def test_a_chart_that_came_in_part_is_read_again_and_never_estimated(
    fresh: Refreshed, patient: str, query: str, status: int, headers: dict[str, str], pause: float
) -> None:
    """Without its laboratory values a patient would look well."""
    fresh.ward.faults.append((query, status, headers))
    worker, began = worker_of(fresh), fresh.handler.clock()
    worker.step()
    assert estimates(fresh, patient) is None
    assert fresh.jobs.queue.take(NAME, began + timedelta(seconds=pause - 1), DAY) is None
    job = fresh.jobs.queue.take(NAME, fresh.handler.clock() + timedelta(seconds=pause), DAY)
    assert job is not None
    assert job.attempts == 1, "a busy server is no failed attempt"


def test_a_search_that_broke_off_at_a_later_page_is_read_again(fresh: Refreshed, patient: str) -> None:
    answered = fresh.ward.get
    fresh.ward.page = 50

    def breaks(query: str) -> tuple[int, Any]:
        return (503, {}) if query.startswith("Observation") and "_offset" in query else answered(query)

    fresh.ward.get = breaks  # type: ignore[method-assign]
    try:
        worker_of(fresh).step()
    finally:
        fresh.ward.get = answered  # type: ignore[method-assign]
    assert estimates(fresh, patient) is None
    assert fresh.jobs.queue.waiting(NAME) == 1


def test_notes_that_are_still_being_read_are_waited_for(
    fresh: Refreshed, patient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Assessment, "waits", property(lambda _: True))
    worker_of(fresh).step()
    assert estimates(fresh, patient) is not None
    assert fresh.jobs.queue.take(NAME, fresh.handler.clock(), DAY) is None
    assert fresh.jobs.queue.take(NAME, fresh.handler.clock() + worker_module.READ_AHEAD, DAY) is not None


def test_what_the_service_may_not_read_is_not_fetched(fresh: Refreshed, patient: str) -> None:
    fresh.ward.faults.append(("GET DocumentReference", 403, {}))
    worker_of(fresh).step()
    assert estimates(fresh, patient) is not None


def test_a_token_that_is_no_longer_taken_is_replaced(fresh: Refreshed, patient: str) -> None:
    worker = worker_of(fresh)
    worker.census()
    fresh.ehr.wrong["revoked"] = (fresh.server.token(),)
    worker.step()
    assert fresh.jobs.queue.waiting(NAME) == 1
    job = fresh.jobs.queue.take(NAME, fresh.handler.clock() + DAY, timedelta())
    assert job is not None
    fresh.jobs.queue.put_off(job, fresh.handler.clock(), counted=False)
    worker.step()
    assert estimates(fresh, patient) is not None


def test_without_access_no_job_is_touched(fresh: Refreshed, patient: str) -> None:
    fresh.ehr.wrong["token_status"] = 400
    with pytest.raises(GatewayError, match="no-access"):
        worker_of(fresh).step()
    job = fresh.jobs.queue.take(NAME, fresh.handler.clock(), DAY)
    assert job is not None
    assert job.attempts == 1


def test_another_patients_data_is_given_up_with_a_reason(fresh: Refreshed, patient: str) -> None:
    answered = fresh.ward.get

    def mixed(query: str) -> tuple[int, Any]:
        status, body = answered(query)
        if query.startswith("Observation?"):
            body["entry"].append({"resource": sodium("another", 1, fresh.ward.now), "search": {"mode": "match"}})
        return status, body

    fresh.ward.get = mixed  # type: ignore[method-assign]
    try:
        worker_of(fresh).step()
    finally:
        fresh.ward.get = answered  # type: ignore[method-assign]
    found = estimates(fresh, patient)
    assert found is not None
    assert not found.tasks
    assert "another patient" in found.problem
    assert fresh.store.audit_entries("refresh-failed")
    assert fresh.jobs.queue.waiting(NAME) == 0


def test_a_chart_that_ends_every_worker_is_given_up(fresh: Refreshed, patient: str) -> None:
    """A process that is killed never says so: its attempts count when it takes the job."""
    for _ in range(ATTEMPTS):
        fresh.jobs.queue.take(NAME, fresh.handler.clock(), timedelta())
    worker = worker_of(fresh)
    worker.step()
    found = estimates(fresh, patient)
    assert found is not None
    assert "attempts" in found.problem
    assert worker.tally.given_up == 1


def test_an_error_of_ours_costs_one_patient_and_not_the_others(
    fresh: Refreshed, patient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(worker_module, "estimate_record", broken)
    worker = worker_of(fresh)
    assert worker.step()
    assert worker.tally.put_off == 1
    assert fresh.jobs.queue.waiting(NAME) == 1


@pytest.fixture
def rounds(fresh: Refreshed) -> Iterator[RefreshRounds]:
    said: list[str] = []
    with Leases(fresh.store.sealed, "refresh-poll", 60) as leases:
        yield RefreshRounds(
            worker_of(fresh), Poller(fresh.server, fresh.jobs, timedelta(minutes=2)), fresh.estimates, leases,
            timedelta(seconds=60), timedelta(hours=6), said.append,
        )  # fmt: skip


def drain(rounds: RefreshRounds) -> int:
    before = rounds.worker.tally.estimated
    while rounds.run_once():
        pass
    return rounds.worker.tally.estimated - before


def test_a_first_round_estimates_every_inpatient(fresh: Refreshed, rounds: RefreshRounds) -> None:
    now = fresh.handler.clock()
    fresh.ward.now = now
    fresh.ward.put(*inpatient("a", now - DAY), *inpatient("b", now - 2 * DAY))
    fresh.ward.put({"resourceType": "Patient", "id": "home"}, sodium("home", 1, now))
    assert drain(rounds) == 2
    assert set(fresh.estimates.get_many(NAME, ["Patient/a", "Patient/b", "Patient/home"])) == {"Patient/a", "Patient/b"}
    rounds.polled = None
    assert drain(rounds) == 0, "nothing changed"
    fresh.ward.put(sodium("a", 1, now))
    rounds.polled = None
    assert drain(rounds) == 1


def test_an_old_estimate_and_one_of_an_earlier_stay_are_made_again(fresh: Refreshed, rounds: RefreshRounds) -> None:
    now = fresh.handler.clock()
    fresh.ward.now = now
    fresh.ward.put(*inpatient("old", now - DAY), *inpatient("back", now - timedelta(minutes=5)))
    fresh.estimates.put(NAME, "Patient/old", PatientEstimates("", now - timedelta(hours=7), "", {}))
    fresh.estimates.put(NAME, "Patient/back", PatientEstimates("", now - timedelta(hours=1), "", {}))
    assert drain(rounds) == 2


def test_a_server_that_is_down_is_left_alone_for_a_while(fresh: Refreshed, rounds: RefreshRounds) -> None:
    fresh.ward.faults.append(("GET Encounter", 429, {"Retry-After": "50"}))
    assert not rounds.run_once()
    assert rounds.failed
    asked = len(fresh.ward.asked)
    assert not rounds.run_once()
    assert len(fresh.ward.asked) == asked
    rounds.paused_until = 0.0
    assert rounds.run_once()
    assert not rounds.failed


def test_a_notification_without_ids_makes_the_next_poll_come_at_once(fresh: Refreshed, rounds: RefreshRounds) -> None:
    drain(rounds)
    assert not rounds._is_due()
    fresh.jobs.queue.advance(NAME, "ask", "", [])
    assert rounds._is_due()
