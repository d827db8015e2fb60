"""Statements by a language model: which are accepted, and how failures are handled."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from knowledge_index import Article, KnowledgeIndex, MiniLMEncoder, build_index, update_index
from knowledge_index.core.errors import SourceError
from knowledge_index.graph.knowledge_graph import RELATIONS
from knowledge_index.graph.llm_triples import RELATION_WORDS, ModelTripleExtractor, TripleQuestion
from knowledge_index.vocabulary.linker import Linker
from tests.knowledge_index.conftest import article
from tests.patience import PATIENT

ARTICLE = Article(
    "7", "Furosemide and salt.", "Furosemide induced hyponatremia. No sepsis and no fever. Prednisone treats asthma."
)
FUROSEMIDE, HYPONATREMIA, PREDNISONE, ASTHMA = "D005665", "D007010", "D011241", "D001249"


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker()


def statement(sentence: object, subject: object, relation: object, object_: object) -> dict[str, object]:
    return {"sentence": sentence, "subject": subject, "relation": relation, "object": object_}


GOOD = statement(2, "Furosemide", "induces", "hyponatremia")


def answering(*answers: str) -> Callable[[TripleQuestion], str]:
    left = iter(answers)
    return lambda question: next(left)


def read(linker: Linker, folder: Path, answer: str) -> tuple[list[tuple[str, str, str]], dict[str, int]]:
    reader = ModelTripleExtractor(linker, answering(answer), "scripted", folder)
    found = [(triple.subject, triple.relation, triple.object) for triple in reader.extract(ARTICLE)]
    return found, dict(reader.counts)


def test_the_question_shows_numbered_sentences_and_their_concepts(linker: Linker, tmp_path: Path) -> None:
    asked: list[TripleQuestion] = []
    reader = ModelTripleExtractor(linker, lambda question: asked.append(question) or "[]", "x", tmp_path)  # type: ignore[func-returns-value]
    assert list(reader.extract(ARTICLE)) == []
    assert "2. Furosemide induced hyponatremia.\n3. No sepsis and no fever." in asked[0].user
    assert asked[0].user.endswith("Concepts:\n2: Furosemide; hyponatremia\n4: Prednisone; asthma")
    assert all(words in RELATIONS and words in asked[0].system for words in RELATION_WORDS)


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps([GOOD]),
        json.dumps([GOOD], indent=2),
        f"Sure! Here it is:\n```json\n{json.dumps([GOOD, GOOD])}\n```\nAnything else?",
        json.dumps([GOOD])[:-1] + ', {"sentence": 4, "subj',
    ],
)
def test_verbatim_statements_are_kept(linker: Linker, tmp_path: Path, answer: str) -> None:
    found, counts = read(linker, tmp_path, answer)
    assert found == [(FUROSEMIDE, "induces", HYPONATREMIA)]
    assert counts["kept"] == 1


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (statement(2, "Aspirin", "induces", "hyponatremia"), "dropped: not the sentence's own words"),
        (statement(4, "Furosemide", "induces", "hyponatremia"), "dropped: not the sentence's own words"),
        (statement(2, "Furosemide", "cures", "hyponatremia"), "dropped: no such relation"),
        (statement(2, "Furosemide", ["induces"], "hyponatremia"), "dropped: no such relation"),
        (statement(9, "Furosemide", "induces", "hyponatremia"), "dropped: no such sentence"),
        (statement("2", "Furosemide", "induces", "hyponatremia"), "dropped: no such sentence"),
        (statement(True, "Furosemide", "induces", "hyponatremia"), "dropped: no such sentence"),
        (statement(3, "sepsis", "induces", "fever"), "dropped: not a concept, or negated"),
        (statement(2, "induced", "induces", "hyponatremia"), "dropped: not a concept, or negated"),
        (statement(2, "", "induces", "hyponatremia"), "dropped: not the sentence's own words"),
        (statement(2, "Furosemide", "induces", "Furosemide"), "dropped: a concept with itself"),
        ("Furosemide induces hyponatremia", "dropped: no object with sentence, subject, relation and object"),
    ],
)
def test_unsupported_statements_are_dropped_and_counted(linker: Linker, tmp_path: Path, item: object, why: str) -> None:
    found, counts = read(linker, tmp_path, json.dumps([item, statement(4, "Prednisone", "treats", "asthma")]))
    assert found == [(PREDNISONE, "treats", ASTHMA)]
    assert counts == {"answers": 1, why: 1, "kept": 1}


@pytest.mark.parametrize(
    "answer", ["", "I cannot help with that.", "{}", "[" * 5000, '[{"sentence": 2,', "null", "\x00"]
)
def test_malformed_answers_are_counted(linker: Linker, tmp_path: Path, answer: str) -> None:
    assert read(linker, tmp_path, answer) == ([], {"answers": 1, "answers that are no list": 1})


def test_articles_with_fewer_than_two_concepts_are_skipped(linker: Linker, tmp_path: Path) -> None:
    reader = ModelTripleExtractor(linker, answering(), "x", tmp_path)
    assert list(reader.extract(Article("1", "Sepsis.", "Nothing else. Fever alone."))) == []


def test_answers_are_cached_per_model(linker: Linker, tmp_path: Path) -> None:
    answer = json.dumps([GOOD])
    first = list(ModelTripleExtractor(linker, answering(answer), "one", tmp_path).extract(ARTICLE))
    again = ModelTripleExtractor(linker, answering(), "one", tmp_path)
    assert list(again.extract(ARTICLE)) == first
    assert again.counts["answers known from before"] == 1
    other = ModelTripleExtractor(linker, answering("[]"), "another", tmp_path)
    assert list(other.extract(ARTICLE)) == []
    assert (other.counts["answers"], other.counts["answers known from before"]) == (1, 0)


class Server:
    """A local server that answers a completion, after a given number of failures."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.fail = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.requests.append(self.rfile.read(int(self.headers["Content-Length"])))
                failing = len(outer.requests) <= outer.fail
                body = b"busy" if failing else json.dumps({"text": json.dumps([GOOD])}).encode()
                self.send_response(503 if failing else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def ask(self, question: TripleQuestion) -> str:
        address = f"http://127.0.0.1:{self.http.server_address[1]}/"
        body = json.dumps({"system": question.system, "user": question.user}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body), timeout=PATIENT) as response:
                return str(json.load(response)["text"])
        except urllib.error.HTTPError as error:
            error.close()
            raise SourceError("the server does not answer", passing=True) from None


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def articles(count: int) -> list[Article]:
    return [Article(str(n), f"Trial {n}", "Furosemide induced hyponatremia.") for n in range(1, count + 1)]


def test_a_transient_failure_skips_one_article_until_the_next_run(
    linker: Linker, tmp_path: Path, server: Server
) -> None:
    server.fail = 2
    reader = ModelTripleExtractor(linker, server.ask, "served", tmp_path)
    found = [triple.pmid for item in articles(4) for triple in reader.extract(item)]
    assert found == ["3", "4"]
    assert reader.counts["articles without an answer"] == 2
    again = ModelTripleExtractor(linker, server.ask, "served", tmp_path)
    assert [triple.pmid for item in articles(4) for triple in again.extract(item)] == ["1", "2", "3", "4"]
    assert (len(server.requests), again.counts["answers known from before"]) == (6, 2)


def test_an_unreachable_server_is_an_error(linker: Linker, tmp_path: Path, server: Server) -> None:
    server.fail = 10**6
    reader = ModelTripleExtractor(linker, server.ask, "served", tmp_path)
    with pytest.raises(SourceError, match="does not answer"):
        [list(reader.extract(item)) for item in articles(9)]
    assert len(server.requests) == 5
    server.fail = 0
    again = ModelTripleExtractor(linker, server.ask, "served", tmp_path)
    assert len([triple for item in articles(2) for triple in again.extract(item)]) == 2
    assert again.counts["answers known from before"] == 0


def test_a_file_that_is_no_cache_is_an_error(linker: Linker, tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(SourceError, match="delete the file"):
        ModelTripleExtractor(linker, answering(), "x", tmp_path)


def test_updates_extract_statements_of_new_articles_only(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    asked: list[str] = []

    def ask(question: TripleQuestion) -> str:
        asked.append(question.user)
        return json.dumps([statement(2, "Furosemide", "induces", "hyponatremia")])

    def made(linker: Linker) -> ModelTripleExtractor:
        return ModelTripleExtractor(linker, ask, "x", tmp_path / "answers")

    one = article("1", "Drug and salt", "Furosemide induced hyponatremia.", "*Diuretics/D004232")
    two = article("2", "More of it", "Furosemide induced hyponatremia again.", "*Diuretics/D004232")
    first = build_index([one], tmp_path / "index", encoder, statements=made)
    manifest, _ = update_index(tmp_path / "index", {"2": two}, (), encoder, statements=made)
    assert (first.counts["statements"], manifest.counts["statements"], len(asked)) == (1, 2, 2)
    manifest, _ = update_index(tmp_path / "index", {}, ("2",), encoder)
    assert manifest.counts["statements"] == 1
    assert any(
        kind == "induces" for kind in (RELATIONS[n] for n in KnowledgeIndex.open(tmp_path / "index").graph.relations)
    )
