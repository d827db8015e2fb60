"""Polls of `_lastUpdated`: nothing lost, nothing twice, whatever the server's clock, order and mood."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cds_service.net.gateway import GatewayError
from cds_service.refresh import polling
from cds_service.refresh.polling import Polled, Poller, Position
from tests.cds_service.refresh.conftest import NAME, Refreshed
from tests.cds_service.refresh.ward_server import DAY, inpatient, sodium

OVERLAP = timedelta(minutes=2)
ALL = None


@pytest.fixture(autouse=True)
def few_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "POLLED", ("Encounter", "Observation"))


def poll(fresh: Refreshed, inpatients: list[str] | None = ALL) -> Polled:
    return Poller(fresh.server, fresh.jobs, OVERLAP).poll(fresh.ward.now, inpatients)


def begin(fresh: Refreshed) -> None:
    """A first poll of an empty server."""
    poll(fresh)
    fresh.ward.now += timedelta(minutes=5)


def test_what_changed_is_queued_and_not_again(fresh: Refreshed) -> None:
    begin(fresh)
    fresh.ward.put(sodium("a", 1, fresh.ward.now), sodium("b", 1, fresh.ward.now), sodium("a", 2, fresh.ward.now))
    assert (poll(fresh).changes, fresh.queued()) == (3, ["Patient/a", "Patient/b"])
    fresh.ward.now += timedelta(seconds=30)
    assert (poll(fresh).changes, fresh.queued()) == (0, []), "the overlap reads them again"


def test_a_new_version_within_the_overlap_is_a_change(fresh: Refreshed) -> None:
    begin(fresh)
    fresh.ward.put(sodium("a", 1, fresh.ward.now))
    poll(fresh)
    fresh.queued()
    fresh.ward.put(sodium("a", 1, fresh.ward.now, 121))
    poll(fresh)
    assert fresh.queued() == ["Patient/a"]


def test_what_is_stored_late_with_an_early_stamp_is_found(fresh: Refreshed) -> None:
    """A transaction that took a minute commits with the time at which it began."""
    begin(fresh)
    poll(fresh)
    fresh.ward.put(sodium("late", 1, fresh.ward.now), at=fresh.ward.now - timedelta(seconds=90))
    fresh.ward.now += timedelta(seconds=10)
    poll(fresh)
    assert fresh.queued() == ["Patient/late"]


@pytest.mark.parametrize("skew", [-3 * DAY, timedelta(hours=-2), timedelta(hours=2), 3 * DAY])
def test_only_the_servers_clock_counts(fresh: Refreshed, skew: timedelta) -> None:
    ours = fresh.ward.now
    poller = Poller(fresh.server, fresh.jobs, OVERLAP)
    fresh.ward.now += skew
    poller.poll(ours, ALL)
    for minute in range(1, 4):
        fresh.ward.now += timedelta(minutes=1)
        fresh.ward.put(sodium(f"p{minute}", 1, fresh.ward.now))
        poller.poll(ours + timedelta(minutes=minute), ALL)
        assert fresh.queued() == [f"Patient/p{minute}"]


def test_a_server_without_a_date_is_read_from_its_newest_stamp(fresh: Refreshed) -> None:
    fresh.ward.dated = False
    begin(fresh)
    for number in range(3):
        fresh.ward.put(sodium(f"p{number}", 1, fresh.ward.now))
        poll(fresh)
        assert fresh.queued() == [f"Patient/p{number}"]
        fresh.ward.now += timedelta(minutes=10)


@pytest.mark.parametrize("sorts", [True, False])
def test_every_page_is_read(fresh: Refreshed, sorts: bool) -> None:
    begin(fresh)
    fresh.ward.page, fresh.ward.sorts = 3, sorts
    for number in range(10):
        fresh.ward.put(sodium(f"p{number}", 1, fresh.ward.now), at=fresh.ward.now - timedelta(seconds=7 * number))
    assert poll(fresh).changes == 10
    assert fresh.queued() == sorted(f"Patient/p{number}" for number in range(10))


@pytest.mark.parametrize("sorts", [True, False])
@pytest.mark.parametrize(("status", "headers", "pause"), [(429, {"Retry-After": "17"}, 17.0), (503, {}, None)])
def test_a_busy_server_ends_the_poll_and_the_next_goes_on(
    fresh: Refreshed, sorts: bool, status: int, headers: dict[str, str], pause: float | None
) -> None:
    begin(fresh)
    fresh.ward.page, fresh.ward.sorts = 3, sorts
    for number in range(9):
        fresh.ward.put(sodium(f"p{number}", 1, fresh.ward.now), at=fresh.ward.now - timedelta(seconds=9 - number))
    first = fresh.ward.get
    asked: list[str] = []

    def busy(query: str) -> tuple[int, object]:
        if query.startswith("Observation"):
            asked.append(query)
            if len(asked) == 2:
                fresh.ward.faults.append(("GET Observation", status, headers))
        return first(query)

    fresh.ward.get = busy  # type: ignore[method-assign]
    try:
        with pytest.raises(GatewayError) as raised:
            poll(fresh)
    finally:
        fresh.ward.get = first  # type: ignore[method-assign]
    assert (raised.value.status, raised.value.retry_after, raised.value.is_transient) == (status, pause, True)
    before = fresh.queued()
    assert len(before) == 6, "two pages were stored"
    poll(fresh)
    assert sorted(before + fresh.queued()) == sorted(f"Patient/p{number}" for number in range(9)), "each once"


def test_a_poll_that_is_killed_between_pages_is_gone_on_with(fresh: Refreshed) -> None:
    begin(fresh)
    fresh.ward.page = 2
    for number in range(6):
        fresh.ward.put(sodium(f"p{number}", 1, fresh.ward.now), at=fresh.ward.now + timedelta(minutes=number))
    fresh.ward.now += timedelta(minutes=10)
    poller = Poller(fresh.server, fresh.jobs, OVERLAP)
    changes = poller._changes("Observation", fresh.ward.now, ALL)
    next(changes)
    next(changes)
    changes.close()
    assert len(before := fresh.queued()) == 4
    fresh.ward.asked.clear()
    poll(fresh)
    assert sorted(before + fresh.queued()) == sorted(f"Patient/p{number}" for number in range(6))
    (since,) = [q for q in fresh.ward.asked if q.startswith("GET Observation") and "_offset" not in q]
    assert "08%3A06" in since, "from the last page's time, less the overlap, not from the start"


def test_a_type_that_cannot_be_polled_is_named_and_the_others_are_read(fresh: Refreshed) -> None:
    fresh.ward.put(sodium("a", 1, fresh.ward.now))
    fresh.ward.faults.append(("GET Encounter", 400, {}))
    found = poll(fresh)
    assert set(found.refused) == {"Encounter"}
    assert fresh.queued() == ["Patient/a"]


def test_outpatients_are_left_and_a_new_admission_is_not(fresh: Refreshed) -> None:
    """An admission after the list of inpatients was read has a changed Encounter."""
    begin(fresh)
    fresh.ward.put(sodium("in", 1, fresh.ward.now), sodium("out", 1, fresh.ward.now))
    fresh.ward.put(*inpatient("new", fresh.ward.now))
    poll(fresh, ["Patient/in"])
    assert fresh.queued() == ["Patient/in", "Patient/new"]


def test_resources_without_a_stamp_are_always_new(fresh: Refreshed) -> None:
    """Otherwise a server that stamps nothing would be heard once."""
    begin(fresh)
    fresh.ward.put(sodium("a", 1, fresh.ward.now))
    answered = fresh.ward.get

    def unstamped(query: str) -> tuple[int, object]:
        status, body = answered(query)
        for entry in body.get("entry", ()):
            entry["resource"] = {k: v for k, v in entry["resource"].items() if k != "meta"}
        return status, body

    fresh.ward.get = unstamped  # type: ignore[method-assign]
    try:
        for _ in range(2):
            poll(fresh)
            assert fresh.queued() == ["Patient/a"]
    finally:
        fresh.ward.get = answered  # type: ignore[method-assign]


def test_pages_that_never_end_are_an_error(fresh: Refreshed) -> None:
    answered = fresh.ward.get

    def round_and_round(query: str) -> tuple[int, object]:
        status, body = answered(query)
        return status, body | {"link": [{"relation": "next", "url": f"{fresh.ward.url}/{query}"}]}

    fresh.ward.get = round_and_round  # type: ignore[method-assign]
    try:
        assert "endless-pages" in str(poll(fresh).refused)
    finally:
        fresh.ward.get = answered  # type: ignore[method-assign]


def test_a_long_catch_up_stays_small(fresh: Refreshed) -> None:
    """A position that held every version of a night would be written anew with each page."""
    begin(fresh)
    fresh.ward.page = 10
    for number in range(100):
        fresh.ward.put(sodium(f"p{number}", 1, fresh.ward.now), at=fresh.ward.now + timedelta(minutes=number))
    poller = Poller(fresh.server, fresh.jobs, OVERLAP)
    sizes = []
    for _ in poller._changes("Observation", fresh.ward.now, ALL):
        position = poller._position("Observation")
        assert position is not None
        sizes.append(len(position.seen))
    assert len(sizes) == 10
    assert max(sizes) <= 13
    assert len(fresh.queued()) == 100


def test_a_position_keeps_what_the_overlap_reads_again(fresh: Refreshed) -> None:
    now = fresh.ward.now
    position = Position(now, {"old": (now - DAY).isoformat(), "new": (now - OVERLAP).isoformat(), "odd": "yesterday"})
    kept = Position.from_json(position.pruned(OVERLAP).to_json())
    assert kept == Position(now, {"new": position.seen["new"], "odd": "yesterday"})


def test_the_stored_position_names_no_patient(fresh: Refreshed) -> None:
    fresh.ward.put(sodium("canary", 1, fresh.ward.now))
    poll(fresh)
    body = fresh.jobs.queue.position(NAME, "Observation")
    assert body is not None
    assert "canary" not in body
    job = fresh.jobs.queue.take(NAME, fresh.ward.now + DAY, DAY)
    assert job is not None
    assert "canary" not in job.body + job.place
