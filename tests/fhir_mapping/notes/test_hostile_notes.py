"""Malicious notes: each ends with a reason within its limits, and the other notes of the record are still read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_mapping.notes.formats import sandbox
from fhir_mapping.notes.formats.converted import Converted, UnreadableError
from fhir_mapping.notes.formats.detection import Format
from tests.fhir_mapping.notes.note_files import cda, deflated, pdf, rtf
from tests.fhir_mapping.notes.test_documents import document, notes
from tests.patience import PATIENT, until

BOMB = pdf([], streams=[deflated(b"BT /F 9 Tf (x) Tj ET ", 8_000_000)])
PAGES = pdf([["x"]] * 3000)
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE: list[tuple[str, bytes, str]] = [
    ("a megabyte of div", b"<div>" * 200_000, "text/html"),
    ("unclosed comments", b"<!--" * 100_000, "text/html"),
    ("unclosed scripts", b"<script" * 100_000, "text/html"),
    ("formatting elements", b"<b><i><u>" * 100_000, "text/html"),
    ("fonts reopened in every paragraph", b"".join(b"<font a%d>" % n for n in range(190)) + b"<p>x" * 20_000, "text/html"),
    ("a huge table", b"<table>" + b"<tr><td>1<td>2" * 300_000, "text/html"),
    ("tables within tables", b"<table><tr><td>" * 100_000, "text/html"),
    ("a million attributes", b"<p " + b"a=1 " * 1_000_000 + b">", "text/html"),
    ("a costly style sheet", b"<style>" + b"p:not(p + p) ~ p i{display:none}" * 500 + b"</style>" + b"<p><i>x" * 90_000,
     "text/html"),
    ("bold within bold", b"<b>x</b>" * 500_000, "text/html"),
    ("groups without end", b"{\\rtf1" + b"{" * 4_000_000, "text/rtf"),
    ("code words without end", b"{\\rtf1" + b"\\b\\i" * 1_200_000, "text/rtf"),
    ("single bytes", b"{\\rtf1" + b"\\'e9" * 1_200_000, "text/rtf"),
    ("binary longer than the file", b"{\\rtf1\\bin999999999 x}", "text/rtf"),
    ("a billion laughs", cda("<text>&l9;</text>", head=f'<!DOCTYPE l [<!ENTITY l0 "ha">{LAUGHS}]>'), "text/xml"),
    ("deep XML", b"<ClinicalDocument>" + b"<a>" * 1_500_000, "text/xml"),
    ("deep sections", cda("<component><section>" * 50_000 + "</section></component>" * 50_000), "text/xml"),
    ("a CDA table", cda("<text><table>" + "<tr><td>1</td></tr>" * 200_000 + "</table></text>"), "text/xml"),
    ("a PDF that inflates to 170 MB", BOMB, "application/pdf"),
    ("a PDF of 3000 pages", PAGES, "application/pdf"),
    ("a PDF of nothing but objects", b"%PDF-1.7\n" + b"1 0 obj<</A[" * 300_000, "application/pdf"),
    ("sentences without end", b"a." * 2_000_000, "text/plain"),
    ("headings without end", b"Plan:\n" * 800_000, "text/plain"),
    ("rules and blanks", b"\n" * 2_000_000 + b"-" * 2_000_000, "text/plain"),
    ("zero width", "\u200b".encode() * 1_600_000, "text/plain"),
]  # fmt: skip
LIMITS = {None, "text-cut", "too-deep", "time-limit", "memory-limit", "converter-crashed", "empty", "xml-doctype",
          "xml-invalid", "xml-not-cda", "pdf-damaged", "pdf-without-text", "not-text"}  # fmt: skip


@pytest.mark.parametrize(("name", "data", "kind"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_hostile_notes_end_within_limits_and_others_are_read(name: str, data: bytes, kind: str) -> None:
    """The limit is on the CPU time of the child, which does not depend on the load of the machine."""
    found = notes(document(data, kind, id="a"), document(b"<p>Tired</p>", "text/html", id="b", date="2024-05-01"))
    hostile, harmless = found.notes()
    assert hostile.reason in LIMITS
    assert (hostile.status == "read") == bool(hostile.text)
    assert (harmless.status, harmless.text) == ("read", "Tired")


def test_hostile_notes_share_the_time_budget_of_a_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each note gets the time that the notes before it have not used."""
    left: list[float] = []
    exchange = sandbox._pool.exchange

    def watched(request: bytes, budget: sandbox.TimeBudget) -> bytes:
        left.append(budget.remaining)
        return exchange(request, budget)

    monkeypatch.setattr(sandbox._pool, "exchange", watched)
    deep = b"<ClinicalDocument>" + b"<a>" * 1_500_000
    hostile = [document(deep + b" " * n, "text/xml", id=f"h{n}") for n in range(6)]
    found = notes(*hostile, document(b"Tired", id="plain", date="2024-05-01")).notes()
    assert left == sorted(left, reverse=True)
    assert len(left) == len(set(left)) == len(hostile)
    assert [note.text for note in found if note.status == "read"] == ["Tired"]
    assert {note.reason for note in found} <= LIMITS | {"record-time-spent"}


def test_no_conversion_without_remaining_time() -> None:
    with pytest.raises(UnreadableError, match="record-time-spent"):
        sandbox.convert(Format.HTML, b"x", budget=sandbox.TimeBudget(0))
    budget = sandbox.TimeBudget()
    sandbox.convert(Format.HTML, b"<p>x</p>" * 1000, budget=budget)
    assert 0 < budget.remaining < sandbox.RECORD_SECONDS


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    sandbox.close()


def html(text: str) -> Converted:
    return sandbox.convert(Format.HTML, f"<p>{text}</p>".encode())


def child_pid() -> int:
    html("warm")
    (child,) = sandbox._pool.idle
    return int(child.process.pid)


def test_a_child_is_reused_and_replaced_when_it_dies() -> None:
    first = child_pid()
    assert child_pid() == first
    os.kill(first, signal.SIGKILL)
    assert until(lambda: not _alive(first))
    assert html("again").text == "again"
    assert child_pid() != first


def test_an_unresponsive_child_is_killed() -> None:
    pid = child_pid()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(UnreadableError, match="time-limit"):
        sandbox.convert(Format.HTML, b"x" * 1_000_000, budget=sandbox.TimeBudget(0.2))
    assert not Path(f"/proc/{pid}").exists()


def test_the_child_has_resource_limits_and_no_environment() -> None:
    os.environ["SECRET_OF_THE_TEST"] = "x"
    try:
        sandbox.close()
        pid = child_pid()
    finally:
        del os.environ["SECRET_OF_THE_TEST"]
    limits = Path(f"/proc/{pid}/limits").read_text()
    rows = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()}
    assert int(rows["Max address space"]) <= 2**30
    assert (rows["Max file size"], rows["Max core file size"]) == ("0", "0")
    assert int(rows["Max cpu time"]) <= 600
    assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert not [path for path in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(path).startswith("socket:")]


def test_a_service_can_start_a_child_in_advance() -> None:
    sandbox.close()
    sandbox.warm()
    (child,) = sandbox._pool.idle
    assert child_pid() == child.process.pid


def test_threads_use_separate_children_up_to_the_limit() -> None:
    texts = [f"note {n}" for n in range(24)]
    answers: dict[str, str] = {}

    def work(part: list[str]) -> None:
        for text in part:
            answers[text] = html(text).text

    threads = [threading.Thread(target=work, args=(texts[n::6],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {text: text for text in texts}
    assert len(sandbox._pool.all) <= sandbox.CHILDREN


def test_a_forked_worker_uses_its_own_child() -> None:
    pid = child_pid()
    worker = os.fork()
    if worker == 0:  # pragma: no cover - runs in the forked process
        good = html("forked").text == "forked" and child_pid() != pid
        sandbox.close()
        os._exit(0 if good else 1)
    assert os.waitpid(worker, 0)[1] == 0
    assert child_pid() == pid


@pytest.mark.parametrize("end", ["", "; os._exit(0)", "; os.kill(os.getpid(), 9)"])
def test_no_child_outlives_its_parent(end: str) -> None:
    code = (
        "import os; from fhir_mapping.notes.formats import sandbox as process; from fhir_mapping.notes.formats.detection import Format;"
        "process.convert(Format.HTML, b'x'); print(process._pool.idle[0].process.pid, flush=True)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code + end], capture_output=True, text=True, timeout=PATIENT, check=False
    )
    pid = int(run.stdout)
    assert until(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_without_a_child_the_note_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.close()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UnreadableError, match="converter-unavailable"):
        html("x")


INVALID_ANSWERS: list[tuple[str, bytes]] = [
    ("no JSON", b"x"),
    ("a list", b"[]"),
    ("no text", b'{"headings": [], "warning": null}'),
    ("text that is none", b'{"text": 1, "headings": [], "warning": null}'),
    ("a heading outside", b'{"text": "a", "headings": [["t", 9, 1, null]], "warning": null}'),
    ("a heading that is none", b'{"text": "a", "headings": [7], "warning": null}'),
    ("too long", b'{"text": "' + b"a" * 200_001 + b'", "headings": [], "warning": null}'),
]


@pytest.mark.parametrize(("name", "answer"), INVALID_ANSWERS, ids=[row[0] for row in INVALID_ANSWERS])
def test_invalid_answers_of_a_child_are_rejected(name: str, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox._pool, "exchange", lambda request, budget: answer)
    with pytest.raises(UnreadableError, match="converter-crashed"):
        sandbox.convert(Format.HTML, b"x")


def test_the_answer_of_a_child_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = b'{"text": "a\\u0000b\\u202ec\\nPlan", "headings": [["Pl\\u200ban", 6, 1, null]], "warning": null}'
    monkeypatch.setattr(sandbox._pool, "exchange", lambda request, budget: answer)
    found = sandbox.convert(Format.HTML, b"x")
    assert (found.text, found.headings[0].title, found.headings[0].start) == ("abc\nPlan", "Plan", 4)


def test_plain_text_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> Callable[[], None]:
        raise AssertionError("a child was started for plain text")

    monkeypatch.setattr(sandbox, "convert", never)
    assert [note.text for note in notes(document(b"Tired")).notes()] == ["Tired"]
    assert rtf("x").startswith(b"{")
