"""An hour of ordinary, slow and hostile clients against `riskcards serve`: growth, latency, leaks and failures.

    python -m benchmarks.soak [--minutes 60] [--rate 3] [--out benchmarks/results/soak.json]

Clients send on schedule what a ward sends, each request with a token of its own: charts seen before, charts with notes
that were not read before, feedback, discovery, health and metrics; one in eight is hostile (`soak_clients.HOSTILE`).
Six more are slow. Six times the knowledge index is updated, the clients file is written anew, and a service is
switched off and on again; near the beginning and near the end all workers are replaced (SIGHUP).

Once in five seconds memory, open files and threads of all the processes of the server are read. Reported is the
slope of memory between the two replacements, by least squares, and what differs between the second and the last tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from benchmarks.serving import quantile
from benchmarks.soak_clients import Seen, Signer, SoakWard, drip
from benchmarks.started import free_port, wait
from cds_service.store import Store
from knowledge_index import Article, KnowledgeIndex, MiniLMEncoder, update_index

RESULT = Path(__file__).parent / "results" / "soak.json"
_LOOK_EVERY = 5.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SLOW_CLIENTS = 6
# Of the whole time: when all workers are replaced. Memory is measured between the two.
_REPLACED = (0.08, 0.93)
_MEASURED = (0.15, 0.92)
_CHANGED = (0.2, 0.32, 0.44, 0.56, 0.68, 0.8)


@dataclass(frozen=True, slots=True)
class Look:
    """The server's processes at one moment: `megabytes` of the largest, and of all; handles and threads together."""

    at: float
    largest: float
    megabytes: float
    handles: int
    threads: int
    workers: int


@dataclass(frozen=True, slots=True)
class SoakFolder:
    """Where the server of the soak keeps what it is given and what it writes."""

    folder: Path
    base: str
    signer: Signer = field(default_factory=Signer)

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder}/soak.db"

    @property
    def index(self) -> Path:
        return self.folder / "index"

    def bytes_kept(self) -> int:
        """Of the database and its journal."""
        return sum(path.stat().st_size for path in self.folder.glob("soak.db*"))

    def write_clients(self, number: int) -> None:
        """The clients file in one step; with `number`, one more EHR that sends nothing."""
        more = [Signer().client() | {"name": f"other-{number}", "issuer": f"https://{number}.example"}] * bool(number)
        file = self.folder / "clients.new"
        file.write_text(json.dumps({"clients": [self.signer.client(), *more]}), "utf-8")
        file.replace(self.folder / "clients.json")


@contextmanager
def serving(place: SoakFolder, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    shutil.copytree(KnowledgeIndex.starter_folder(), place.index)
    place.write_clients(0)
    env = os.environ | {
        "RISKCARDS_DATABASE_URL": place.database,
        "RISKCARDS_CDS_CLIENTS": str(place.folder / "clients.json"),
        "RISKCARDS_PUBLIC_URL": place.base,
        "RISKCARDS_INDEX": str(place.index),
        "RISKCARDS_LOG_LEVEL": "ERROR",
    }
    port = place.base.rpartition(":")[2]
    command = [sys.executable, "-m", "cds_service.cli", "serve", "--port", port, "--workers", str(workers)]
    with subprocess.Popen(command, env=env) as server:
        try:
            wait(f"{place.base}/health/ready", 120)
            yield server
        finally:
            server.terminate()


def look(server: int, started: float) -> Look:
    """Of the server and its children, from /proc."""
    listed = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    resident, handles, threads = [], 0, 0
    for process in (str(server), *listed):
        try:
            resident.append(int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE / 2**20)
            handles += len(os.listdir(f"/proc/{process}/fd"))
            threads += len(os.listdir(f"/proc/{process}/task"))
        except OSError:  # a worker that ends between one line and the next
            continue
    return Look(time.monotonic() - started, max(resident), sum(resident), handles, threads, len(listed))


def processor_seconds(server: int) -> float:
    """User and system time of the server, of its workers, and of those that ended."""
    listed = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    ticks = 0
    for process in (str(server), *listed):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        own, ended = slice(11, 13), slice(13, 15)
        ticks += sum(map(int, fields[own])) + (sum(map(int, fields[ended])) if process == str(server) else 0)
    return ticks / os.sysconf("SC_CLK_TCK")


def change(place: SoakFolder, number: int) -> None:
    """What operators do to a running service: other literature, another clients file, a service off and on again."""
    words = f"Zebra stripes, part {number}"
    update_index(place.index, {"999999999": Article("999999999", words, f"{words} of the zebra.")}, (), MiniLMEncoder())
    place.write_clients(number)
    store = Store(place.database)
    store.set_mode("readmission-30d", "*", "off", "soak")
    time.sleep(10)
    store.set_mode("readmission-30d", "*", "live", "soak")
    store.close()


@dataclass(slots=True)
class Run:
    """One soak: Run(options, place, server).go()"""

    options: argparse.Namespace
    place: SoakFolder
    server: int
    seen: Seen = field(default_factory=Seen)
    looks: list[Look] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    stopped: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return float(60 * self.options.minutes)

    def go(self) -> None:
        ward, local = SoakWard(self.place.base, self.place.signer, self.options.seed), threading.local()

        def one(due: float) -> None:
            time.sleep(max(0.0, due - time.monotonic()))
            if not hasattr(local, "session"):
                local.session = requests.Session()
            ward.ask(local.session, self.seen, self.started)

        others = [
            threading.Thread(target=self._watch, daemon=True),
            threading.Thread(target=self._operate, daemon=True),
        ]
        others += [
            threading.Thread(
                target=drip, args=(self.place.base, self.place.signer, self.seen, self.stopped, seed), daemon=True
            )
            for seed in range(_SLOW_CLIENTS)
        ]
        for thread in others:
            thread.start()
        rate = self.options.rate
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(one, (self.started + number / rate for number in range(int(self.seconds * rate)))))
        self.stopped.set()
        for thread in others:
            thread.join(60)

    def _watch(self) -> None:
        while not self.stopped.wait(_LOOK_EVERY):
            self.looks.append(look(self.server, self.started))

    def _operate(self) -> None:
        plan = sorted([*((share, 0) for share in _REPLACED), *((s, n + 1) for n, s in enumerate(_CHANGED))])
        for share, number in plan:
            if self.stopped.wait(max(0.0, self.started + share * self.seconds - time.monotonic())):
                return
            try:
                if number:
                    change(self.place, number)
                else:
                    os.kill(self.server, signal.SIGHUP)
            except Exception as error:  # noqa: BLE001 - whatever it is, the soak goes on and reports it
                self.faults.append(f"{number}: {error.__class__.__name__}: {error}")


def slope(looks: list[Look], name: str) -> float:
    """Least squares, per hour."""
    points = [(each.at / 3600, float(getattr(each, name))) for each in looks]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 2 else float("nan")


def summary_of(run: Run) -> dict[str, Any]:
    """Statuses, slopes, and what was different at the end from the beginning."""
    seen, seconds = run.seen, run.seconds
    by_kind: dict[str, Counter[str]] = {}
    for _, kind, status, _ in seen.answers:
        by_kind.setdefault(kind, Counter())[str(status)] += 1
    measured = [each for each in run.looks if _MEASURED[0] <= each.at / seconds <= _MEASURED[1]]
    early = [each for each in measured if each.at / seconds < _MEASURED[0] + 0.1]
    late = [each for each in measured if each.at / seconds > _MEASURED[1] - 0.1]
    parts = {}
    for name, low, high in (("second_tenth", 0.1, 0.2), ("last_tenth", 0.9, 1.01)):
        there = [item for item in seen.answers if low <= item[0] / seconds < high]
        times = [ms for _, kind, status, ms in there if kind == "known" and status == 200] or [float("nan")]
        parts[name] = {"requests": len(times), "p50_ms": quantile(times, 0.5), "p95_ms": quantile(times, 0.95)}

    def middle(looks: list[Look], name: str) -> float:
        return statistics.median(float(getattr(each, name)) for each in looks)

    return {
        "minutes": seconds / 60,
        "requests": len(seen.answers),
        "slow_clients_shut_out": seen.slow,
        "statuses": {kind: dict(sorted(counts.items())) for kind, counts in sorted(by_kind.items())},
        "server_errors": sum(500 <= status != 503 for _, _, status, _ in seen.answers),
        "turned_away_503": sum(counts["503"] for counts in by_kind.values()),
        "asked_again": seen.again,
        "no_answer": sum(counts["0"] for counts in by_kind.values()),
        "attacks_answered_otherwise": seen.unexpected,
        "operators_faults": run.faults,
        "known_charts_of_a_megabyte": parts,
        "processes": {
            name: {"early": middle(early, name), "late": middle(late, name), "slope_an_hour": slope(measured, name)}
            for name in ("largest", "megabytes", "handles", "threads", "workers")
        },
    }


def store_is_whole(place: SoakFolder, seen: Seen) -> dict[str, Any]:
    """Whether the database of the run is whole: its chain, and a card in it for every one that was shown."""
    store = Store(place.database)
    chain, cards = store.verify_audit(), {entry.subject for entry in store.audit_entries("card")}
    feedback = len(store.feedback())
    store.close()
    lost = [card for card in seen.shown if card.split()[1] not in cards]
    return {
        "audit_entries": chain.entries,
        "audit_fault": chain.fault,
        "cards_shown": len(seen.shown),
        "cards_without_audit": len(lost),
        "feedback_acknowledged": len(seen.acknowledged),
        "feedback_kept": feedback,
        "store_bytes": place.bytes_kept(),
        "store_bytes_a_card": place.bytes_kept() / max(1, len(cards)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=3.0, help="requests a second")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = SoakFolder(Path(folder), f"http://127.0.0.1:{free_port()}")
        with serving(place, options.workers) as server:
            run = Run(options, place, server.pid)
            run.go()
            spent = processor_seconds(server.pid)
        result = summary_of(run) | {"processor_seconds_a_second": spent / run.seconds} | store_is_whole(place, run.seen)
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    wrong = ("server_errors", "no_answer", "attacks_answered_otherwise", "operators_faults", "audit_fault")
    sys.exit(1 if any(result[name] for name in wrong) or result["cards_without_audit"] else 0)


if __name__ == "__main__":
    main()
