"""The queue of patients to estimate again, on both databases: none lost, none twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from cds_service.store.refresh_queue import NewJob, TakenJob
from cds_service.store.store import Store

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)
LEASE = timedelta(minutes=2)


def job(name: str, *, server: str = "ehr", due: datetime = NOW) -> NewJob:
    return NewJob(name, server, f"body of {name}", due)


def taken(store: Store, now: datetime = NOW) -> TakenJob:
    found = store.refresh_queue.take("ehr", now, LEASE)
    assert found is not None
    return found


def test_one_patient_is_one_job_and_the_first_due_time_stays(store: Store) -> None:
    queue = store.refresh_queue
    assert queue.add([job("a"), job("b")]) == 2
    assert queue.add([job("a", due=NOW + timedelta(hours=1)), job("c")]) == 1
    assert queue.waiting("ehr") == 3
    assert queue.waiting("another") == 0
    assert [taken(store).place for _ in range(3)] == ["a", "b", "c"]
    assert queue.take("ehr", NOW, LEASE) is None


def test_a_job_is_taken_when_it_is_due_and_of_its_server(store: Store) -> None:
    store.refresh_queue.add([job("later", due=NOW + timedelta(seconds=30)), job("x", server="another")])
    assert store.refresh_queue.take("ehr", NOW, LEASE) is None
    assert taken(store, NOW + timedelta(seconds=30)).body == "body of later"


def test_the_job_of_a_dead_worker_is_taken_over_after_its_lease(store: Store) -> None:
    store.refresh_queue.add([job("a")])
    assert taken(store).attempts == 1
    assert store.refresh_queue.take("ehr", NOW + LEASE - timedelta(seconds=1), LEASE) is None
    assert taken(store, NOW + LEASE).attempts == 2


def test_what_is_asked_for_while_it_is_worked_on_is_done_again(store: Store) -> None:
    """Data that came after the chart was read would otherwise wait for the next change."""
    store.refresh_queue.add([job("a")])
    first = taken(store)
    store.refresh_queue.add([job("a")])
    assert not store.refresh_queue.done(first, NOW)
    second = taken(store)
    assert second.attempts == 1
    assert store.refresh_queue.done(second, NOW)
    assert store.refresh_queue.waiting("ehr") == 0


def test_a_job_that_is_put_off_waits_and_is_counted_or_not(store: Store) -> None:
    store.refresh_queue.add([job("a")])
    store.refresh_queue.put_off(taken(store), NOW + timedelta(minutes=1))
    assert store.refresh_queue.take("ehr", NOW, LEASE) is None
    again = taken(store, NOW + timedelta(minutes=1))
    assert again.attempts == 2
    store.refresh_queue.put_off(again, NOW, counted=False)
    assert taken(store).attempts == 2


def test_a_page_and_its_position_are_recorded_together(store: Store) -> None:
    queue = store.refresh_queue
    assert queue.position("ehr", "Observation") is None
    assert queue.advance("ehr", "Observation", "one", [job("a")]) == 1
    assert queue.advance("ehr", "Observation", "two", [job("a"), job("b")]) == 1
    assert queue.position("ehr", "Observation") == "two"
    assert set(queue.positions("ehr")) == {"Observation"}


def test_many_writers_and_workers_leave_each_job_once(store: Store) -> None:
    names = [f"p{n}" for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        added = sum(pool.map(lambda _: store.refresh_queue.add(list(map(job, names))), range(6)))
        got = list(pool.map(lambda _: store.refresh_queue.take("ehr", NOW, LEASE), range(18)))
    assert added == len(names)
    places = [one.place for one in got if one is not None]
    assert sorted(places) == sorted(set(places))
    rest = iter(lambda: store.refresh_queue.take("ehr", NOW, LEASE), None)
    assert sorted([*places, *(one.place for one in rest)]) == sorted(names)
