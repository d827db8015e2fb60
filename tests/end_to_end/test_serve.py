"""The production server as a process of its own: workers, tokens, slow senders, metrics, and a stop that drains."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from benchmarks import large_bodies
from benchmarks.soak import look
from cds_service.application.gunicorn_worker import REQUEST_SECONDS
from knowledge_index import KnowledgeIndex
from knowledge_index.core.storage import read_manifest
from tests.cds_service.access.ehr import Ehr, bearer
from tests.contract.conftest import whole_request
from tests.contract.rules import assert_valid_response
from tests.patience import PATIENT, responds, until

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 4


@dataclass
class Served:
    url: str
    port: int
    ehr: Ehr
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def headers(self, path: str) -> dict[str, str]:
        return bearer(self.ehr.token(f"{self.url}{path}"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, ehr = tmp_path_factory.mktemp("serve"), Ehr()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = {
        "RISKCARDS_PUBLIC_URL": url,
        "RISKCARDS_CDS_CLIENTS": str(ehr.configure(folder / "clients.json")),
        "RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/serve.db",
        "RISKCARDS_INDEX": str(shutil.copytree(KnowledgeIndex.starter_folder(), folder / "index")),
        "RISKCARDS_RUN_FOLDER": str(folder / "run"),
    }
    command = [sys.executable, "-m", "cds_service.cli", "serve", "--port", str(port), "--workers", str(WORKERS)]
    with (
        (folder / "log.txt").open("wb") as log,
        subprocess.Popen(command, env=os.environ | settings, cwd=ROOT, stdout=log, stderr=log) as process,
    ):
        _wait(f"{url}/health/ready", process, folder / "log.txt")
        yield Served(url, port, ehr, process, folder)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENT)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    assert until(lambda: process.poll() is not None or responds(url)), log.read_text()
    assert process.poll() is None, log.read_text()


def test_of_fifty_at_once_over_four_workers_one_token_passes_once(served: Served) -> None:
    """Fifty connections send one token at the same moment, again and again until every worker has refused one."""

    def attempt(given: tuple[dict[str, str], threading.Barrier]) -> int:
        headers, together = given
        with requests.Session() as session:
            session.get(f"{served.url}/health/live", timeout=PATIENT)  # connected, and so placed with a worker
            together.wait(PATIENT)
            while True:
                # On a busy machine the server may have closed the connection, idle for its two seconds.
                with suppress(requests.ConnectionError):
                    return session.get(f"{served.url}/cds-services", headers=headers, timeout=PATIENT).status_code

    with ThreadPoolExecutor(50) as pool:
        for _ in range(20):
            same = (served.headers("/cds-services"), threading.Barrier(50))
            codes = list(pool.map(attempt, [same] * 50))
            assert sorted(codes) == [200, *[401] * 49]
            refusing = set(re.findall(r"worker=(\d+) token refused reason=replayed", served.log.read_text()))
            if len(refusing) == WORKERS:
                break
    assert {int(each) for each in refusing} == workers_of(served.process.pid)


def test_cards_come_and_metrics_sum_over_workers(served: Served) -> None:
    request, path = whole_request("diabetic-heart-failure-discharge"), "/cds-services/readmission-30d"
    for _ in range(6):
        answer = requests.post(f"{served.url}{path}", json=request, headers=served.headers(path), timeout=PATIENT)
        assert answer.status_code == 200, answer.text
        assert_valid_response(answer.json())
    text = requests.get(f"{served.url}/metrics", timeout=PATIENT).text
    assert 'riskcards_answers_total{result="card",service="readmission-30d"} 6.0' in text
    assert 'riskcards_hook_seconds_count{service="readmission-30d"} 6.0' in text
    assert "walter" not in text


def test_replacing_all_workers_drops_nothing_and_counts_on(served: Served) -> None:
    """A worker that left once took the folder of the counters with it: /metrics then failed, and with it hooks that
    were the first of their kind to be counted.
    """
    request, path = whole_request("diabetic-heart-failure-discharge"), "/cds-services/readmission-30d"

    def ask(_: int) -> int:
        headers = served.headers(path)
        return requests.post(f"{served.url}{path}", json=request, headers=headers, timeout=PATIENT).status_code

    def answered() -> float:
        text = requests.get(f"{served.url}/metrics", timeout=PATIENT)
        assert text.status_code == 200, text.text
        found = [line for line in text.text.splitlines() if line.startswith("riskcards_answers_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    before, old = answered(), workers_of(served.process.pid)
    served.process.send_signal(signal.SIGHUP)
    codes = []

    def replaced() -> bool:
        codes.append(ask(0))
        return not old & workers_of(served.process.pid)

    assert until(replaced), "the old workers are still there"
    codes += [ask(0) for _ in range(4)]
    assert set(codes) <= {200, 503}
    assert 200 in codes
    assert answered() == before + len(codes)
    assert "was sent SIGTERM" not in served.log.read_text(), "none was ended in the middle of leaving"


def test_workers_that_cannot_start_end_no_worker_that_serves(served: Served) -> None:
    """One flipped byte in the index on disk, and workers are replaced: gunicorn's own master would shut down."""
    file = read_manifest(served.folder / "index").inside(served.folder / "index") / "terms.json"
    whole, path = file.read_bytes(), "/cds-services"

    def serving() -> bool:
        return requests.get(f"{served.url}{path}", headers=served.headers(path), timeout=PATIENT).status_code == 200

    old = workers_of(served.process.pid)
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    served.process.send_signal(signal.SIGHUP)
    assert until(lambda: len(re.findall(r"exited with code 5", served.log.read_text())) >= WORKERS)
    assert until(lambda: workers_of(served.process.pid) == old)
    assert serving()
    killed = min(old)
    os.kill(killed, signal.SIGKILL)
    assert until(lambda: killed not in workers_of(served.process.pid))
    assert all(serving() for _ in range(5))
    assert old - {killed} <= workers_of(served.process.pid)
    file.write_bytes(whole)
    served.process.send_signal(signal.SIGHUP)
    assert until(lambda: not old & workers_of(served.process.pid) and len(workers_of(served.process.pid)) == WORKERS)
    assert serving()


def workers_of(server: int) -> set[int]:
    return {int(each) for each in Path(f"/proc/{server}/task/{server}/children").read_text().split()}


def test_slow_senders_do_not_keep_others_out(served: Served) -> None:
    """A hundred clients that send a byte and then nothing: health and other requests are answered meanwhile.

    Meanwhile is: before the server gives up those that have sent their headers.
    """
    head = (
        "POST /cds-services/hospital-risk HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "{authorization}Content-Length: 5000000\r\n\r\n{{"
    )
    slow = []
    for number in range(100):
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENT)
        # Half of them stop within their headers.
        token = served.headers("/cds-services/hospital-risk")["Authorization"]
        whole = head.format(authorization=f"Authorization: {token}\r\n").encode()
        connection.sendall(whole if number % 2 else whole[:60])
        slow.append(connection)
    try:
        answers = [requests.get(f"{served.url}/health/live", timeout=REQUEST_SECONDS / 2) for _ in range(10)]
        assert answers
        assert all(answer.ok for answer in answers)
        path = "/cds-services/readmission-30d"
        body = json.dumps(whole_request("diabetic-heart-failure-discharge"))
        given = served.headers(path) | {"Content-Type": "application/json"}
        answer = requests.post(f"{served.url}{path}", data=body, headers=given, timeout=PATIENT)
        assert answer.status_code in {200, 503}
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
    finally:
        for connection in slow:
            connection.close()


def test_hundreds_of_dripping_headers_take_no_thread(served: Served) -> None:
    """Each held a thread for as long as its headers took, and 800 of them all: hooks were not answered."""
    path = "/cds-services/readmission-30d"
    body = json.dumps(whole_request("diabetic-heart-failure-discharge"))
    with ExitStack() as slow:
        connections = [
            slow.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=PATIENT))
            for _ in range(800)
        ]
        for number, connection in enumerate(connections):
            # Others have been closed meanwhile: above the share of their address, or as they were late.
            with suppress(OSError):
                connection.sendall(b"POST /cds-services/hospital-risk HTTP/1.1\r\nX-Slow: "[: 10 + number % 40])
        given = served.headers(path) | {"Content-Type": "application/json"}
        answer = requests.post(f"{served.url}{path}", data=body, headers=given, timeout=PATIENT)
        threads = [
            int(line.split()[1])
            for worker in workers_of(served.process.pid)
            for line in Path(f"/proc/{worker}/status").read_text().splitlines()
            if line.startswith("Threads:")
        ]
    assert answer.status_code == 200
    assert max(threads) < 250, threads


def test_the_kill_switch_reaches_the_running_service_from_any_shell(served: Served) -> None:
    """`riskcards mode off` without --config wrote to another database, and cards went on."""
    path, request = "/cds-services/readmission-30d", whole_request("diabetic-heart-failure-discharge")

    def mode(*words: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("RISKCARDS_")}
        env["RISKCARDS_RUN_FOLDER"] = str(served.folder / "run")
        command = [sys.executable, "-m", "cds_service.cli", "mode", *words]
        return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)

    def cards() -> int:
        answer = requests.post(f"{served.url}{path}", json=request, headers=served.headers(path), timeout=PATIENT)
        return len(answer.json()["cards"])

    assert cards() == 1
    done = mode("off", "--reason", "drill")
    assert done.returncode == 0, done.stderr
    assert "serve.db" in done.stdout
    assert served.url in done.stdout
    assert [cards() for _ in range(2 * WORKERS)] == [0] * 2 * WORKERS, "in every worker, at once"
    assert mode("live").returncode == 0
    assert cards() == 1


def test_workers_that_grow_are_replaced_one_at_a_time_and_metrics_have_an_address_of_their_own(tmp_path: Path) -> None:
    """A count of requests let anonymous health checks replace both workers at once: hooks stalled for ten seconds."""
    ehr, ports = Ehr(), []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    public, (port, admin) = "https://cds.example.org", ports
    (tmp_path / "token").write_text("an-operator\n")
    settings = {
        "RISKCARDS_PUBLIC_URL": public,
        "RISKCARDS_CDS_CLIENTS": str(ehr.configure(tmp_path / "clients.json")),
        "RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/grow.db",
        "RISKCARDS_WORKER_GROWTH_BYTES": "1",
        "RISKCARDS_OPERATOR_TOKEN_FILE": str(tmp_path / "token"),
        "RISKCARDS_RUN_FOLDER": str(tmp_path / "run"),
    }
    command = [
        sys.executable, "-m", "cds_service.cli", "serve", "--port", str(port), "--workers", "2",
        "--admin", f"127.0.0.1:{admin}",
    ]  # fmt: skip
    with (
        (tmp_path / "log.txt").open("wb") as log,
        subprocess.Popen(command, env=os.environ | settings, cwd=ROOT, stdout=log, stderr=log) as process,
    ):
        _wait(f"http://127.0.0.1:{admin}/health/ready", process, tmp_path / "log.txt")
        here, there = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        operator = bearer("an-operator")
        for path in ("/metrics", "/health/ready"):
            assert requests.get(f"{here}{path}", timeout=PATIENT).status_code == 401
            assert requests.get(f"{here}{path}", headers=bearer("guessed"), timeout=PATIENT).status_code == 401
            assert requests.get(f"{here}{path}", headers=operator, timeout=PATIENT).status_code == 200
            assert requests.get(f"{there}{path}", timeout=PATIENT).status_code == 200
            forged = {"Host": f"127.0.0.1:{admin}", "X-Forwarded-For": "127.0.0.1"}
            assert requests.get(f"{here}{path}", headers=forged, timeout=PATIENT).status_code == 401
        assert requests.get(f"{here}/health/live", timeout=PATIENT).status_code == 200
        assert requests.get(f"{there}/cds-services", timeout=PATIENT).status_code == 404
        old, path, codes = workers_of(process.pid), "/cds-services", []

        def replaced() -> bool:
            token = bearer(ehr.token(f"{public}{path}"))
            codes.append(requests.get(f"{here}{path}", headers=token, timeout=PATIENT).status_code)
            return bool(old - workers_of(process.pid))

        assert until(replaced), (tmp_path / "log.txt").read_text()
        assert set(codes) == {200}
        assert old & workers_of(process.pid), "the other one goes on"
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENT)
    assert "has grown" in (tmp_path / "log.txt").read_text()


def test_large_bodies_all_at_once_are_turned_away_or_answered_within_memory(served: Served) -> None:
    """Forty bodies of ten megabytes; `python -m benchmarks.large_bodies` sends a hundred. All of them parsed at once
    would take some three gigabytes.
    """
    path = large_bodies.PATH
    before = look(served.process.pid, 0.0).megabytes
    headers = [served.headers(path) for _ in range(40)]
    answers, seen = large_bodies.flood(served.port, served.process.pid, large_bodies.bodies(), headers)
    result = large_bodies.summary_of(answers, seen, before)
    assert {each.status for each in answers} <= large_bodies.PROMISED, result
    assert result["503_without_retry_after"] == 0
    assert result["megabytes_above_it"] < 1000
    assert seen.health
    body = json.dumps(whole_request("diabetic-heart-failure-discharge"))
    path = "/cds-services/readmission-30d"
    for _ in range(2 * WORKERS):
        given = served.headers(path) | {"Content-Type": "application/json"}
        assert requests.post(f"{served.url}{path}", data=body, headers=given, timeout=PATIENT).status_code == 200


def raw(port: int, data: bytes) -> bytes:
    """What a connection answers to bytes that may be no request at all."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENT) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return answer


CHUNKS: dict[str, tuple[bytes, bytes]] = {
    "a size that is none": (b"ZZ\r\n", b"400"),
    "a size below nothing": (b"-5\r\nxxxxx\r\n0\r\n\r\n", b"400"),
    "an extension without end": (b"1;" + b"a" * 1_000_000 + b"\r\nx\r\n0\r\n\r\n", b"400"),
    "no end of a chunk": (b"2\r\n{}abc", b"400"),
    "half a chunk": (b"5\r\n{", b"400"),
    # It was once cut at ten megabytes, and the first ten taken for the whole.
    "more than a body may hold": (b"b00000\r\n{}" + b" " * 11_534_334 + b"\r\n0\r\n\r\n", b"413"),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_body_in_broken_chunks_is_its_senders_fault(served: Served, name: str) -> None:
    path = "/cds-services/readmission-30d"
    head = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    head += [f"{key}: {value}" for key, value in served.headers(path).items()]
    body, status = CHUNKS[name]
    answer = raw(served.port, "\r\n".join(head).encode() + b"\r\n\r\n" + body)
    assert answer.split()[1] == status
    assert b"OperationOutcome" in answer


def test_nothing_after_a_broken_chunk_is_taken_for_a_request(served: Served) -> None:
    """Where the next request begins is then anybody's guess: a server that guesses can be made to hear a stranger's."""
    path = "/cds-services/readmission-30d"
    head = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    hidden = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    for broken in (b"ZZ\r\n", b"2\r\n{}abc\r\n", b"-1\r\n"):
        one = [*head, *(f"{key}: {value}" for key, value in served.headers(path).items())]
        answer = raw(served.port, "\r\n".join(one).encode() + b"\r\n\r\n" + broken + hidden * 3)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b'"live"' not in answer


def test_a_body_in_whole_chunks_is_answered(served: Served) -> None:
    path, body = "/cds-services/readmission-30d", json.dumps(whole_request("diabetic-heart-failure-discharge")).encode()
    parts = iter([body[:1000], body[1000:]])
    headers = served.headers(path) | {"Content-Type": "application/json"}
    assert requests.post(f"{served.url}{path}", data=parts, headers=headers, timeout=PATIENT).status_code == 200


def test_the_server_in_front_logs_nothing_of_a_request(tmp_path: Path) -> None:
    """Paths, queries, headers, bodies, and lines that are no HTTP: at DEBUG none of it is in the log or the answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/canary.db", "RISKCARDS_LOG_LEVEL": "DEBUG"}
    command = [sys.executable, "-m", "cds_service.cli", "serve", "--insecure", "--port", str(port), "--workers", "1"]
    name = "canary-walter"
    post = f"POST /cds-services/{name}?{name} HTTP/1.1\r\nHost: {name}\r\nContent-Type: application/json\r\n"
    requests_of = [
        f"GET /{name}?{name}={name} HTTP/1.1\r\nHost: x\r\nX-Patient: {name}\r\nConnection: close\r\n\r\n",
        f"{name}\r\n\r\n",
        f"GET /{name} {name}\r\n\r\n",
        f"{name.upper()} /{name} HTTP/9.9\r\n\r\n",
        f"GET / HTTP/1.1\r\n{name}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{name} : {name}\r\n\r\n",
        f"GET /{name * 500} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nX: {name * 1000}\r\n\r\n",
        f"{post}Content-Length: {name}\r\n\r\n",
        f"{post}Transfer-Encoding: {name}\r\n\r\n",
        f"{post}Transfer-Encoding: chunked\r\n\r\n{name}\r\n",
        f"{post}Expect: {name}\r\nContent-Length: 5\r\n\r\n{name}",
        f"{post}Content-Length: 99999\r\n\r\n{name}",
    ]
    with (tmp_path / "log.txt").open("wb") as log:
        with subprocess.Popen(command, env=os.environ | settings, cwd=ROOT, stdout=log, stderr=log) as process:
            _wait(f"http://127.0.0.1:{port}/health/ready", process, tmp_path / "log.txt")
            said = [raw(port, data.encode()) for data in requests_of]
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENT)
        log_text = (tmp_path / "log.txt").read_text("utf-8", errors="replace")
    assert "refused status=404" in log_text, "a log that is off proves nothing"
    assert name not in log_text.lower()
    assert [answer for answer in said if name.encode() in answer.lower()] == []
    assert not [answer for answer in said if answer.startswith(b"HTTP/1.1 5")]


def test_a_stop_lets_what_runs_finish(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/stop.db", "RISKCARDS_PUBLIC_URL": "http://x.example"}
    command = [sys.executable, "-m", "cds_service.cli", "serve", "--insecure", "--port", str(port), "--workers", "1"]
    with (tmp_path / "log.txt").open("wb") as log:
        with subprocess.Popen(command, env=os.environ | settings, cwd=ROOT, stdout=log, stderr=log) as process:
            _wait(f"http://127.0.0.1:{port}/health/ready", process, tmp_path / "log.txt")
            request = whole_request("diabetic-heart-failure-discharge")
            url = f"http://127.0.0.1:{port}/cds-services/readmission-30d"
            codes: list[int] = []

            def ask() -> None:
                """Again and again: whenever the stop comes, something runs."""
                while 0 not in codes:
                    try:
                        codes.append(requests.post(url, json=request, timeout=PATIENT).status_code)
                    except requests.ConnectionError:
                        codes.append(0)  # it came after the door was closed: nothing was begun

            with ThreadPoolExecutor(4) as pool:
                for _ in range(4):
                    pool.submit(ask)
                assert until(lambda: 200 in codes)
                process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENT) == 0
        assert set(codes) == {200, 0}
