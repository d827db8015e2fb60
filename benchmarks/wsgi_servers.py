"""Which WSGI server in front of the service: gunicorn's workers and granian, on bodies of a megabyte, side by side.

    python -m benchmarks.wsgi_servers [--rounds 3] [--seconds 10] [--out benchmarks/results/wsgi_servers.json]

The same application, settings, clients and bodies for each: two processes, flat out with six clients, and at
twelve requests a second (open loop). Every server is started, warmed, measured and stopped in each round, one after the
other, so that what else the machine does falls on all of them; told is the middle of the rounds and its ratio to
`riskcards serve`. Then what a hundred clients cost that send one byte of a body and no more: is a request of somebody
else answered meanwhile? granian comes from the environment of `make peers`; without it that row says so.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.hook_latency import free_port, wait
from benchmarks.serving import SERVICE, Bodies, body_of_a_megabyte, flat_out, on_schedule, post, quantile
from benchmarks.soak import look

RESULT = Path(__file__).parent / "results" / "wsgi_servers.json"
OURS = "riskcards serve"
_STOP_SECONDS = 30
PATH = f"/cds-services/{SERVICE}"
_APPLICATION = "benchmarks.wsgi_servers:application"


def application() -> Any:
    """The service as a worker of any server makes it: opened, warmed, settled."""
    from cds_service.app import create_app
    from cds_service.commands.memory import bound_arenas, settle
    from cds_service.settings import Settings
    from cds_service.warming import warm

    bound_arenas()
    app = create_app(Settings.from_environment(os.environ))
    warm(app.extensions["riskcards"].answering.pipeline)
    settle()
    return app


def commands(port: int, workers: int, peers: Path) -> Mapping[str, list[str] | None]:
    """Server -> how it is started, or None where it is not installed."""
    python, bind = sys.executable, ["--workers", str(workers), "--bind", f"127.0.0.1:{port}", f"{_APPLICATION}()"]
    site = next(peers.glob("lib/python3*/site-packages"), None)
    granian = [
        *(
            python,
            "-c",
            f"import sys; sys.path.append({str(site)!r}); from granian.cli import entrypoint; entrypoint()",
        ),
        *("--interface", "wsgi", "--workers", str(workers), "--port", str(port), "--log-level", "warning"),
        *("--factory", _APPLICATION),
    ]
    return {
        OURS: [python, "-m", "cds_service.cli", "serve", "--insecure", "--port", str(port), "--workers", str(workers)],
        "gunicorn gthread": [python, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "256", *bind],
        "gunicorn sync": [python, "-m", "gunicorn", "--worker-class", "sync", *bind],
        "granian": granian if site is not None and (site / "granian").is_dir() else None,
    }


@contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """The process id of a server that answers."""
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {
            "RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/servers.db",
            "RISKCARDS_LOG_LEVEL": "WARNING",
        }
        with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, start_new_session=True) as server:
            try:
                wait(f"http://127.0.0.1:{port}/health/ready")
                yield server.pid
            finally:
                server.terminate()
                stopped(server)


def stopped(server: subprocess.Popen[bytes]) -> None:
    """Waits for a server to stop, and ends it with all its processes where slow clients keep it from stopping."""
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{server.pid} does not stop by itself", file=sys.stderr)
        os.killpg(server.pid, signal.SIGKILL)


def warmed(port: int, body: bytes, workers: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(8 * workers):
        post(connection, PATH, body)
        connection.close()  # so that each may come to another worker


def measured(port: int, body: bytes, options: argparse.Namespace) -> dict[str, Any]:
    """Requests a second flat out, the same prefetch again and a new one each time."""
    answer: dict[str, Any] = {}
    for name, same in (("same_prefetch_again", True), ("every_prefetch_new", False)):
        rate, times = flat_out(port, PATH, Bodies.of(body, same=same), options.seconds, options.clients)
        answer[name] = {"per_second": rate, "p50_ms": quantile(times, 0.5), "p95_ms": quantile(times, 0.95)}
    half = on_schedule(port, PATH, Bodies.of(body, same=False), options.seconds, options.rate)
    answer["on_schedule"] = {"p50_ms": quantile(half, 0.5), "p95_ms": quantile(half, 0.95)}
    return answer


def others_are_served(port: int) -> float | str:
    """Milliseconds until a request is answered while a hundred bodies are waited for, or what happened instead."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{{"
    with ExitStack() as slow:
        for _ in range(100):
            connection = slow.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            connection.sendall(head.encode())
        time.sleep(1)
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/health/live")
            connection.getresponse().read()
        except OSError as error:
            return f"not answered in 10 s ({error.__class__.__name__})"
        return (time.perf_counter() - started) * 1000


def one_round(options: argparse.Namespace, body: bytes) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    port = free_port()
    for name, command in commands(port, options.workers, options.peers).items():
        if command is None:
            continue
        with running(command, port) as server:
            warmed(port, body, options.workers)
            found[name] = measured(port, body, options)
            found[name]["megabytes"] = look(server, 0.0).megabytes
            found[name]["health_beside_slow_bodies_ms"] = others_are_served(port)
        print(f"{name}: {found[name]['every_prefetch_new']['per_second']:.1f}/s", file=sys.stderr)
    return found


def middle(rounds: list[dict[str, dict[str, Any]]], server: str, *path: str) -> float:
    values = []
    for each in rounds:
        value: Any = each[server]
        for key in path:
            value = value[key]
        values.append(float(value))
    return statistics.median(values)


def told(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Server -> the middle of its rounds, and its rate as a share of ours in the same rounds."""
    parts = ("same_prefetch_again", "every_prefetch_new", "on_schedule")
    answer: dict[str, Any] = {}
    for server in rounds[0]:
        answer[server] = {
            part: {key: middle(rounds, server, part, key) for key in rounds[0][server][part]} for part in parts
        }
        for part in parts[:2]:
            shares = [each[server][part]["per_second"] / each[OURS][part]["per_second"] for each in rounds]
            answer[server][part]["times_ours"] = statistics.median(shares)
        answer[server]["megabytes"] = middle(rounds, server, "megabytes")
        answer[server]["health_beside_slow_bodies_ms"] = [
            each[server]["health_beside_slow_bodies_ms"] for each in rounds
        ]
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rate", type=float, default=12.0, help="requests a second of the open loop")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    body = body_of_a_megabyte()
    load = os.getloadavg()[0]
    rounds = [one_round(options, body) for _ in range(options.rounds)]
    result = {
        "body_bytes": len(body),
        "workers": options.workers,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "load_average_before": load,
        "open_loop_per_second": options.rate,
        "servers": told(rounds),
        "granian": "measured" if "granian" in rounds[0] else "not installed: make peers",
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
