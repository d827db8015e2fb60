"""E-utilities against a local server that answers as NCBI documents: history, pages, failures."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from cds_service.cli import main
from cds_service.net.eutils import eutils_fetch
from knowledge_index import Article, SourceError
from knowledge_index.sources.articles import collect_articles
from knowledge_index.sources.eutils import PAGE, Eutils, Pace


def record(pmid: int) -> str:
    return (
        f"<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><ArticleTitle>Invented article {pmid}"
        "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
    )


@dataclass
class Ncbi:
    """The documented behaviour of the two utilities, and the requests to them."""

    count: int = 450
    history: int = 1
    asked: list[dict[str, str]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    address: str = ""

    def answer(self, path: str, sent: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append({"utility": path.rsplit("/", 1)[-1], **sent})
        if self.failures:
            return self.failures.pop(0), b"busy"
        if path.endswith("esearch.fcgi"):
            found = {"count": str(self.count), "webenv": f"MCID_{self.history}", "querykey": "1", "idlist": []}
            if sent["term"] == "((":
                found = {"ERROR": "Search Backend failed: unbalanced"}
            return 200, json.dumps({"header": {}, "esearchresult": found}).encode()
        if sent["WebEnv"] != f"MCID_{self.history}":
            return 200, b"<eFetchResult><ERROR>Unable to obtain query #1 from WebEnv</ERROR></eFetchResult>"
        first, many = int(sent["retstart"]), int(sent["retmax"])
        body = "".join(record(n + 1) for n in range(first, min(first + many, self.count)))
        return 200, f"<?xml version='1.0'?><PubmedArticleSet>{body}</PubmedArticleSet>".encode()


@pytest.fixture
def ncbi() -> Iterator[Ncbi]:
    state = Ncbi()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, answer = state.answer(self.path, {name: values[0] for name, values in parse_qs(body).items()})
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        state.address = f"http://127.0.0.1:{server.server_address[1]}/entrez/eutils"
        yield state
        server.shutdown()
        thread.join()


class Clock:
    """A clock that advances only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pace(self, per_second: float = 3) -> Pace:
        return Pace(per_second, lambda: self.now, self.sleep)


def eutils(ncbi: Ncbi, clock: Clock, key: str | None = None) -> Eutils:
    return Eutils(eutils_fetch(ncbi.address), key, clock.pace())


def test_a_query_becomes_pages_and_pages_become_articles(ncbi: Ncbi, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    pages = eutils(ncbi, Clock()).download("heart failure", tmp_path, progress=lambda *done: reported.append(done))
    collected = collect_articles("pubmed-xml", pages)
    assert sorted(map(int, collected.articles)) == list(range(1, 451))
    assert isinstance(collected.articles["7"], Article)
    assert reported == [(200, 450), (400, 450), (450, 450)]
    search, *fetches = ncbi.asked
    assert (search["utility"], search["term"], search["usehistory"]) == ("esearch.fcgi", "heart failure", "y")
    assert [(item["retstart"], item["retmax"]) for item in fetches] == [("0", "200"), ("200", "200"), ("400", "50")]
    assert {item["WebEnv"] for item in fetches} == {"MCID_1"}
    assert ncbi.asked
    assert all(item["tool"] == "riskcards" and "api_key" not in item for item in ncbi.asked)


def test_downloaded_pages_are_not_fetched_again(ncbi: Ncbi, tmp_path: Path) -> None:
    first = eutils(ncbi, Clock()).download("sepsis", tmp_path)
    before = [path.read_bytes() for path in first]
    asked = len(ncbi.asked)
    assert eutils(ncbi, Clock()).download("sepsis", tmp_path) == first
    assert len(ncbi.asked) == asked
    first[1].unlink()
    eutils(ncbi, Clock()).download("sepsis", tmp_path)
    assert [item["retstart"] for item in ncbi.asked[asked:]] == ["200"]
    assert [path.read_bytes() for path in first] == before


def test_an_interrupted_download_resumes(ncbi: Ncbi, tmp_path: Path) -> None:
    client = eutils(ncbi, Clock())
    client.download("copd", tmp_path, limit=PAGE)
    ncbi.failures = [400]
    with pytest.raises(SourceError, match="answered 400 to efetch"):
        client.download("copd", tmp_path)
    asked = len(ncbi.asked)
    assert len(client.download("copd", tmp_path)) == 3
    assert [item["utility"] for item in ncbi.asked[asked:]] == ["efetch.fcgi", "efetch.fcgi"]


def test_an_expired_history_is_searched_again(ncbi: Ncbi, tmp_path: Path) -> None:
    client = eutils(ncbi, Clock())
    client.download("copd", tmp_path, limit=PAGE)
    ncbi.history = 2
    assert len(client.download("copd", tmp_path)) == 3
    ncbi.history, ncbi.count = 3, 470
    (tmp_path / "page-00400-50.xml.gz").unlink()
    with pytest.raises(SourceError, match="450 records when it began and 470 now"):
        client.download("copd", tmp_path)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_failures_are_retried(ncbi: Ncbi, tmp_path: Path, status: int) -> None:
    clock = Clock()
    ncbi.failures = [status] * 3
    assert len(eutils(ncbi, clock).download("copd", tmp_path)) == 3
    assert [seconds for seconds in clock.slept if seconds >= 1] == [1.0, 2.0, 4.0]
    ncbi.failures = [status] * 4
    with pytest.raises(SourceError, match=f"answered {status}"):
        eutils(ncbi, clock).download("another", tmp_path / "another")


@pytest.mark.parametrize(("per_second", "key"), [(3, None), (10, "secret-key")])
def test_the_request_rate_is_limited(tmp_path: Path, per_second: int, key: str | None) -> None:
    clock = Clock()
    moments: list[float] = []

    def fetch(utility: str, parameters: object) -> bytes:
        moments.append(clock.now)
        if utility == "esearch":
            return b'{"esearchresult": {"count": "4000", "webenv": "w", "querykey": "1"}}'
        return b"<PubmedArticleSet><PubmedArticle></PubmedArticle></PubmedArticleSet>"

    Eutils(fetch, key, Pace(per_second, lambda: clock.now, clock.sleep)).download("x", tmp_path)
    assert len(moments) == 21
    assert all(b - a >= 1 / per_second - 1e-9 for a, b in pairwise(moments))


def test_the_api_key_raises_the_rate_and_is_sent_in_the_body(ncbi: Ncbi, tmp_path: Path) -> None:
    eutils(ncbi, Clock(), "secret-key").download("copd", tmp_path)
    assert {item["api_key"] for item in ncbi.asked} == {"secret-key"}
    assert "secret-key" not in (tmp_path / "search.json").read_text()
    assert Eutils(lambda *_: b"", "k")._pace._gap == pytest.approx(0.1)
    assert Eutils(lambda *_: b"")._pace._gap == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("query", "count", "status", "message"),
    [
        ("nothing", 0, [], "finds nothing for 'nothing'"),
        ("everything", 12_000, [], "12,000 records match and PubMed hands out 9,999"),
        ("((", 1, [], "refused the query: Search Backend failed"),
        ("moved", 1, [302], "answered 302"),
    ],
)
def test_failures_are_explained(
    ncbi: Ncbi, tmp_path: Path, query: str, count: int, status: list[int], message: str
) -> None:
    ncbi.count, ncbi.failures = count, status
    with pytest.raises(SourceError, match=message):
        eutils(ncbi, Clock()).download(query, tmp_path)


def test_an_unreachable_server_and_one_without_https(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(SourceError, match="cannot be reached: ConnectionError"):
        Eutils(eutils_fetch("http://127.0.0.1:9/eutils"), pace=clock.pace()).download("x", tmp_path)
    with pytest.raises(SourceError, match="https"):
        eutils_fetch("http://eutils.example.org")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"esearchresult": {}}', b"<html>maintenance</html>"])
def test_a_malformed_answer_is_an_error(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(SourceError, match="not what it documents"):
        Eutils(lambda *_: body, pace=Clock().pace()).download("x", tmp_path)


def test_the_command_builds_an_index_from_a_query(
    ncbi: Ncbi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ncbi.count = 5
    command = ["riskcards", "index", "build", "--source", "eutils", "heart failure", "--out", str(tmp_path / "index")]
    monkeypatch.setattr(sys, "argv", [*command, "--eutils-url", ncbi.address, "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    shown = capsys.readouterr()
    assert left.value.code == 0, shown.err
    assert json.loads(shown.out)["manifest"]["counts"]["articles"] == 5
    assert "5 x no abstract, the title alone is indexed" in shown.err
    ncbi.count = 0
    monkeypatch.setattr(sys, "argv", [*command[:5], "no such thing", *command[6:], "--eutils-url", ncbi.address])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 3
    assert "PubMed finds nothing for 'no such thing'" in capsys.readouterr().err
