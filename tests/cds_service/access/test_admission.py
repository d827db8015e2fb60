"""Admission control: limits on concurrent work, waiting requests, bytes and rates."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from cds_service.access.admission import Admission, OverloadedError, RateLimit, RateLimitedError
from tests.patience import PATIENT, until


def test_requests_beyond_the_active_and_waiting_limits_are_refused() -> None:
    """Two are served until every other request waits or was refused."""
    admission = Admission(active=2, waiting=3, seconds=PATIENT, held_bytes=100)
    together, most, lock, done = 0, 0, threading.Lock(), threading.Event()

    def work(_: int) -> int:
        nonlocal together, most
        try:
            with admission.enter():
                with lock:
                    together += 1
                    most = max(most, together)
                assert done.wait(PATIENT)
                with lock:
                    together -= 1
                return 200
        except OverloadedError as error:
            return 503 if error.retry_after else 0

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(work, number) for number in range(20)]
        assert until(lambda: sum(each.done() for each in asked) == 15)
        assert admission.load == (2, 3)
        done.set()
        answers = [each.result() for each in asked]
    assert most == 2
    assert (answers.count(200), answers.count(503)) == (5, 15)
    assert admission.load == (0, 0)


def test_waiting_is_limited_in_time() -> None:
    admission = Admission(active=1, waiting=5, seconds=0.05, held_bytes=100)
    with admission.enter(), pytest.raises(OverloadedError, match="in time"), admission.enter():
        pass
    with admission.enter():
        assert admission.load == (1, 0)


def test_bytes_held_are_limited_and_one_large_body_alone_is_served() -> None:
    admission = Admission(active=1, waiting=1, seconds=1, held_bytes=100)
    with admission.hold(60), pytest.raises(OverloadedError, match="large"), admission.hold(60):
        pass
    with admission.hold(1000), pytest.raises(OverloadedError), admission.hold(1):
        pass
    with admission.hold(60), admission.hold(40):
        pass


def test_a_rate_limit_is_per_client_and_refills() -> None:
    now = [0.0]
    limit = RateLimit(60, lambda: now[0])
    for _ in range(10):
        limit.take("a")
    with pytest.raises(RateLimitedError) as caught:
        limit.take("a")
    assert caught.value.retry_after == 1
    limit.take("b")
    now[0] = 1.5
    limit.take("a")
    for _ in range(1000):
        RateLimit(0).take("a")


def test_one_client_has_a_share_of_the_places() -> None:
    """Ninety slow bodies of one client gave every other client 503."""
    admission = Admission(active=1, waiting=3, seconds=PATIENT, held_bytes=1000)
    with ExitStack() as held:
        for _ in range(6):
            held.enter_context(admission.hold(1, "slow"))
        with pytest.raises(OverloadedError), admission.hold(1, "slow"):
            pass
        with admission.hold(1, "other"), admission.hold(1, ""):
            pass
    with admission.hold(700, "large"):
        with pytest.raises(OverloadedError), admission.hold(100, "large"):
            pass
        with admission.hold(300, "other"):
            pass
    with admission.hold(1000, "alone"):
        pass
    for _ in range(6):  # all was given back
        with admission.hold(1, "slow"):
            pass


def test_one_client_does_not_fill_the_queue() -> None:
    admission, done = Admission(active=1, waiting=4, seconds=PATIENT, held_bytes=1), threading.Event()

    def work(client: str) -> int:
        try:
            with admission.enter(client=client):
                assert done.wait(PATIENT)
            return 200
        except OverloadedError:
            return 503

    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(work, "busy")
        assert until(lambda: admission.load == (1, 0))
        asked = [pool.submit(work, "busy") for _ in range(6)]
        assert until(lambda: sum(each.done() for each in asked) == 3)
        other = pool.submit(work, "other")
        assert until(lambda: admission.load == (1, 4))
        done.set()
        assert (first.result(), other.result()) == (200, 200)
        assert sorted(each.result() for each in asked) == [200, 200, 200, 503, 503, 503]


def test_the_buckets_of_a_rate_limit_do_not_grow_without_end() -> None:
    now = [0.0]
    limit = RateLimit(60, lambda: now[0])
    for number in range(30_000):
        now[0] += 0.01
        limit.take(str(number))
    assert len(limit._buckets) <= 11_001
