"""WSGI servers in front of the service: gunicorn's workers and granian, on bodies of one megabyte.

    python -m benchmarks.wsgi_servers [--rounds 3] [--seconds 10] [--out benchmarks/results/wsgi_servers.json]

The same application, settings, clients and bodies for each: two processes, flat out with six clients, and at twelve
requests a second (open loop). Every server is started, warmed, measured and stopped in each round, one after the
other, so that other load on the machine falls on all of them; reported is the middle of the rounds and its ratio to
`riskcards serve`. Before that, each is left alone with clients that send a byte a second: when are they shut out, and
does the server still stop? granian comes from the environment of `make peers`; without it that row says so.
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

from benchmarks.serving import SERVICE, Bodies, body_of_a_megabyte, flat_out, on_schedule, post, quantile
from benchmarks.soak import look
from benchmarks.started import free_port, wait

RESULT = Path(__file__).parent / "results" / "wsgi_servers.json"
OURS = "riskcards serve"
PATH = f"/cds-services/{SERVICE}"
_STOP_SECONDS = 30
_SLOW, _LOOKED = 20, 40
_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"
_APPLICATION = "benchmarks.wsgi_servers:application"


def application() -> Any:
    """The service as a worker of any server makes it: opened, warmed, settled."""
    from cds_service.application.factory import create_app
    from cds_service.application.memory import bound_arenas, settle
    from cds_service.application.warmup import warm
    from cds_service.config.settings import Settings

    bound_arenas()
    app = create_app(Settings.from_environment(os.environ))
    warm(app.extensions["riskcards"].handler.pipeline)
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


def slow_clients(port: int) -> dict[str, Any]:
    """Twenty clients that send a byte a second of their headers, and twenty of their bodies: when they are shut out.

    Seconds, the middle of those that were, and how many were not in the time looked; and how long health takes.
    """
    parts = {"headers": _HEAD.encode(), "bodies": f"{_HEAD}\r\n{{".encode()}
    with ExitStack() as opened:
        there = []
        for part, data in parts.items():
            for _ in range(_SLOW):
                connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                connection.sendall(data)
                connection.setblocking(False)
                there.append((part, connection))
        started, shut = time.perf_counter(), {part: list[float]() for part in parts}
        health = answered_in(port)
        while there and time.perf_counter() - started < _LOOKED:
            time.sleep(1)
            gone = [(part, connection) for part, connection in there if is_shut(connection)]
            there = [each for each in there if each not in gone]
            for part, _ in gone:
                shut[part].append(time.perf_counter() - started)
    measured = {
        part: {"shut_after_seconds": statistics.median(times) if times else None, "still_open": _SLOW - len(times)}
        for part, times in shut.items()
    }
    return {**measured, "looked_for_seconds": _LOOKED, "health_beside_them_ms": health}


def is_shut(connection: socket.socket) -> bool:
    """Whether the server has answered or gone, when one more byte is sent."""
    try:
        connection.send(b"x")
        connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def answered_in(port: int) -> float | str:
    """Milliseconds of a request for health, or what happened instead."""
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
        if command is None or (options.only and name not in (*options.only, OURS)):
            continue
        with running(command, port) as server:
            warmed(port, body, options.workers)
            found[name] = measured(port, body, options)
            found[name]["megabytes"] = look(server, 0.0).megabytes
        print(f"{name}: {found[name]['every_prefetch_new']['per_second']:.1f}/s", file=sys.stderr)
    return found


def patience(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each server does with slow clients, and how it stops while they are there."""
    found, port = {}, free_port()
    for name, command in commands(port, 1, options.peers).items():
        if command is None or (options.only and name not in options.only):
            continue
        with running(command, port) as server:
            found[name] = slow_clients(port)
            slow = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(_SLOW)]
            for connection in slow:
                connection.sendall(f"{_HEAD}\r\n{{".encode())
            time.sleep(1)
            started = time.perf_counter()
            os.kill(server, signal.SIGTERM)
            found[name]["stops_within_seconds"] = _gone_after(server, started)
        for connection in slow:
            connection.close()
        print(f"{name}: {found[name]}", file=sys.stderr)
    return found


def _gone_after(server: int, started: float) -> float | None:
    """Seconds until a process has ended, None when it has not in the time a stop may take."""
    while time.perf_counter() - started < _STOP_SECONDS:
        state = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            return time.perf_counter() - started
        time.sleep(0.1)
    return None


def middle(rounds: list[dict[str, dict[str, Any]]], server: str, *path: str) -> float:
    values = []
    for each in rounds:
        value: Any = each[server]
        for key in path:
            value = value[key]
        values.append(float(value))
    return statistics.median(values)


def summary_of(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
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
    parser.add_argument("--part", choices=("both", "speed", "patience"), default="both")
    parser.add_argument("--only", action="append", help="this server; may be repeated; what is known of others stays")
    options = parser.parse_args()
    kept = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    result: dict[str, Any] = {"workers": options.workers, "cores": os.cpu_count(), **kept}
    if options.part != "speed":
        result["slow_clients"] = kept.get("slow_clients", {}) | patience(options)
    if options.part != "patience":
        body, load = body_of_a_megabyte(), os.getloadavg()[0]
        rounds = [one_round(options, body) for _ in range(options.rounds)]
        result["speed"] = {
            "body_bytes": len(body),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "load_average_before": load,
            "open_loop_per_second": options.rate,
            "servers": summary_of(rounds),
            "granian": "measured" if "granian" in rounds[0] else "not installed: make peers",
        }
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
