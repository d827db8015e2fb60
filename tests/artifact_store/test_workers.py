"""Workers: order, exactly once, deaths, bounded memory, and the same on every engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from artifact_store import PerProcess, Workers, WorkersError, disable_telemetry
from tests.artifact_store.jobs import DemandingError, always_die, die_once, fail, process_of, square
from tests.patience import until

ROOT = Path(__file__).resolve().parents[2]
ITEMS = list(range(23))


@pytest.mark.parametrize("items", [[], [4], ITEMS], ids=["none", "one", "many"])
def test_in_this_process(items: list[int]) -> None:
    assert list(Workers().map(square, iter(items))) == [item * item for item in items]


def test_results_come_once_and_in_order_though_workers_are_killed(tmp_path: Path) -> None:
    job = partial(die_once, tmp_path, frozenset({7, 22}))
    assert list(Workers(2).map(job, ITEMS)) == [item * item for item in ITEMS]
    assert len(list(tmp_path.iterdir())) == 2, "two workers did die"


def test_an_item_that_kills_every_worker_is_given_up_with_a_remedy() -> None:
    with pytest.raises(WorkersError, match=r"killed, or out of memory.*fewer --workers"):
        list(Workers(2).map(always_die, ITEMS))


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("plain", KeyError, "five"),
        ("demanding", DemandingError, "^nothing at home$"),
        ("local", RuntimeError, "Here: x"),
    ],
)
def test_an_error_of_the_job_is_raised_and_is_no_death(kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(Workers(2).map(partial(fail, kind), ITEMS))


def test_one_value_and_one_thread_a_process_and_few_items_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in ITEMS:
            read += 1
            yield item

    results = Workers(2).map(partial(process_of, PerProcess(list)), items())
    first = next(results)
    assert read <= 4
    made = [first, *results]
    assert {threads for *_, threads in made} == {"1"}
    assert "OMP_NUM_THREADS" not in os.environ
    for process in {process for process, *_ in made}:
        lengths = [length for each, length, _ in made if each == process]
        assert sorted(lengths) == list(range(1, len(lengths) + 1))
    here = list(Workers().map(partial(process_of, PerProcess(list)), [1, 2]))
    assert [length for _, length, _ in here] == [1, 2]


ENGINES = [
    ("dask", r"unknown: use local, .* or ray .*pip install 'riskcards\[scale\]'"),
    ("", "unknown"),
    ("ray", r"ray is not installed: pip install 'riskcards\[scale\]'"),
]


@pytest.mark.parametrize(("engine", "message"), ENGINES)
def test_an_engine_that_is_not_there_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, engine: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkersError, match=message):
        Workers(2, engine)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_does_not_answer_is_said_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Ray itself tries for minutes."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(WorkersError, match=rf"no Ray cluster answers at RAY_ADDRESS {address} .*unset RAY_ADDRESS"):
        list(Workers(2, "ray").map(square, ITEMS))


_PARENT = """
import os, signal, sys, time
from functools import partial
from artifact_store import Workers

def announce(folder, item):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    list(Workers(2).map(partial(announce, sys.argv[1]), range(9)))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_at_once(tmp_path: Path, how: signal.Signals) -> None:
    """Workers of a killed parent waited for ever for more items, with their models in memory."""
    (script := tmp_path / "parent.py").write_text(_PARENT)
    (folder := tmp_path / "workers").mkdir()
    command = [sys.executable, str(script), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as parent:
        assert until(lambda: len(list(folder.iterdir())) == 2)
        parent.send_signal(how)
        parent.wait()
    workers = [int(path.name) for path in folder.iterdir()]
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.skipif("TEST_CLUSTER" not in os.environ, reason="set TEST_CLUSTER=1: starts a Ray cluster of two nodes")
def test_a_cluster_of_two_nodes_gives_what_one_process_gives(tmp_path: Path) -> None:
    """One node dies with its worker, the worker of the other is killed twice."""
    ray = pytest.importorskip("ray")
    disable_telemetry()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    second = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    try:
        ray.init(cluster.address, log_to_driver=False, configure_logging=False)
        results = Workers(2, "ray").map(partial(die_once, tmp_path, frozenset({3, 20})), range(40))
        found = [next(results) for _ in range(6)]
        cluster.remove_node(second, allow_graceful=False)
        assert [*found, *results] == [item * item for item in range(40)]
        assert len(list(tmp_path.iterdir())) == 2
        for kind, error in (("plain", KeyError), ("demanding", DemandingError)):
            with pytest.raises(error, match=r"five|^nothing at home$"):
                list(Workers(2, "ray").map(partial(fail, kind), ITEMS))
    finally:
        ray.shutdown()
        cluster.shutdown()
