"""The number of mutated requests that are answered with a 5xx; none may be.

    python -m benchmarks.fuzz [--requests 100000] [--seed 0] [--out benchmarks/results/fuzz.json]

Takes the golden cases' requests, changes one to six places in each (values of another kind, odd strings, numbers at the
edges, deleted and doubled members, cut and flipped bytes), and posts them to the service in this process. A 5xx is
printed with its seed: `--seed N --requests 1` posts that request again. Feedback is fuzzed the same way. A run that is
stopped, or ends after `--seconds`, goes on with `--resume` where its result ends.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from flask.testing import FlaskClient

from cds_service.application.factory import create_app
from cds_service.application.warmup import warm
from cds_service.config.settings import Settings
from cds_service.demo.ward.chart import Chart
from cds_service.services import SERVICES

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RESULT = Path(__file__).parent / "results" / "fuzz.json"
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, -1e308, 2**53, "", " ", "\u0000", "\u202e", "<script>", "9" * 400, "![](http://x)",
    "Patient/..", "urn:uuid:1", "#x", "2024", "2024-02-30", "2024-01-01T25:00:00Z", "0001-01-01", "1e400",
    "9999-12-31T23:59:59Z", [], {}, [[]], [None], {"a": None}, {"resourceType": "Patient"}, {"reference": 5}, ["x"],
    [{"x": []}],
    {"coding": "x"}, {"coding": [{"system": 1, "code": []}]}, {"value": "1", "unit": 7}, {"resourceType": 4},
)  # fmt: skip


def requests_of(examples: Path) -> list[tuple[str, dict[str, Any]]]:
    """(service id, request body) of every golden case."""
    found = []
    for folder in sorted(path.parent for path in examples.glob("*/request.json")):
        request = json.loads((folder / "request.json").read_text("utf-8"))
        bundle = json.loads((folder / "bundle.json").read_text("utf-8"))
        chart = Chart([entry["resource"] for entry in bundle["entry"]])
        service, context = SERVICES[request["service"]], request["context"]
        prefetch = service.fill_prefetch(context, chart.query)
        found.append((service.id, service.request_body(context, prefetch, hook_instance=request["hookInstance"])))
    return found


def mutated(seed: int, bodies: list[tuple[str, dict[str, Any]]]) -> tuple[str, bytes]:
    """The request of this seed: always the same."""
    chance = random.Random(seed)
    service, original = chance.choice(bodies)
    body = orjson.loads(orjson.dumps(original))
    for _ in range(chance.randint(1, 6)):
        places = list(_places(body))
        if places:
            holder, key = chance.choice(places)
            chance.choice(_CHANGES)(holder, key, chance)
    raw = json.dumps(body).encode()  # also what JSON forbids: Infinity, and nesting without end
    if chance.random() < 0.1:
        place = chance.randrange(len(raw))
        raw = raw[:place] if chance.random() < 0.5 else raw[:place] + bytes([chance.randrange(256)]) + raw[place + 1 :]
    return service, raw


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (holder, key) below a value."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])


def _replace(holder: Any, key: Any, chance: random.Random) -> None:
    holder[key] = copy.deepcopy(chance.choice(_ODD))


def _delete(holder: Any, key: Any, _: random.Random) -> None:
    del holder[key]


def _double(holder: Any, key: Any, _: random.Random) -> None:
    if isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = [holder[key], copy.deepcopy(holder[key])]


def _swap(holder: Any, key: Any, chance: random.Random) -> None:
    other = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


def _wrap(holder: Any, key: Any, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 3, 70))):
        holder[key] = chance.choice(([holder[key]], {"x": holder[key]}))


def _bend(holder: Any, key: Any, chance: random.Random) -> None:
    if isinstance(holder[key], str) and holder[key]:
        place = chance.randrange(len(holder[key]))
        holder[key] = (
            holder[key][:place] + chance.choice(("", "\u0000", "é", "/", "9", "Z", "\n")) + holder[key][place + 1 :]
        )
    elif isinstance(holder[key], int | float):
        holder[key] = chance.choice((-holder[key], holder[key] * 1e9, holder[key] + 0.5))


_CHANGES: tuple[Callable[[Any, Any, random.Random], None], ...] = (
    _replace, _replace, _delete, _double, _swap, _wrap, _bend, _bend,
)  # fmt: skip


def post(client: FlaskClient, seed: int, bodies: list[tuple[str, dict[str, Any]]], cards: list[str]) -> int:
    """Status of the mutated request of a seed; one in twenty is feedback."""
    service, raw = mutated(seed, bodies)
    if seed % 20 == 0 and cards:
        entry = {"card": cards[-1], "outcome": "overridden", "outcomeTimestamp": "2026-01-01T00:00:00Z"}
        service, raw = f"{service}/feedback", mutated(seed, [(service, {"feedback": [entry]})])[1]
    answer = client.post(f"/cds-services/{service}", data=raw, content_type="application/json")
    if answer.status_code == 200 and answer.get_data():
        cards.extend(card["uuid"] for card in answer.get_json()["cards"])
    return answer.status_code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--resume", action="store_true", help="go on where the result ends")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    statuses, faults = Counter[str](), list[int]()
    if options.resume and options.out.exists():
        before = json.loads(options.out.read_text("utf-8"))
        if before["first_seed"] != options.seed:
            parser.error(f"--resume: {options.out} began with seed {before['first_seed']}")
        statuses.update(before["statuses"])
        faults += before["faults"]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.from_environment({"RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/fuzz.db"})
        app = create_app(settings)
        # As `serve` does before a worker is ready.
        warm(app.extensions["riskcards"].handler.pipeline)
        seeds = range(options.seed + statuses.total(), options.seed + options.requests)
        fuzzed(app.test_client(), seeds, options.seconds, statuses, faults)
    result = {
        "requests": statuses.total(),
        "first_seed": options.seed,
        "statuses": dict(sorted(statuses.items())),
        "faults": faults,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result["statuses"]))
    sys.exit(1 if faults else 0)


def fuzzed(client: FlaskClient, seeds: range, seconds: float, statuses: Counter[str], faults: list[int]) -> None:
    """Posts the requests of `seeds`, and counts what they are answered with, until time is up."""
    bodies, cards, started = requests_of(EXAMPLES), list[str](), time.perf_counter()
    for done, seed in enumerate(seeds):
        status = post(client, seed, bodies, cards)
        statuses[str(status)] += 1
        if status >= 500:
            faults.append(seed)
            print(f"\nseed {seed}: {status}", file=sys.stderr)
        took = time.perf_counter() - started
        if done % 200 == 199:
            print(f"\r{done + 1:,} requests, {done / took:.0f}/s, {len(faults)} faults", end="", file=sys.stderr)
        if took > seconds:
            break
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
