"""`riskcards score` as a user runs it: files or a local FHIR server in, a RiskAssessment out, honest exit codes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fhir.resources.R4B.riskassessment import RiskAssessment

from cds_service import cli
from tests.end_to_end.golden import EXAMPLES

ICU = EXAMPLES / "sepsis-icu-first-day" / "bundle.json"
HOME = EXAMPLES / "diabetic-heart-failure-discharge" / "bundle.json"
WARD = EXAMPLES / "pneumonia-ward-abstains" / "bundle.json"
DISCHARGE = ("--as-of", "2024-05-09T11:00:00Z")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def assessment(self) -> dict[str, Any]:
        """The RiskAssessment on standard output, validated."""
        resource = json.loads(self.out)
        RiskAssessment.model_validate(resource)
        assert isinstance(resource, dict)
        return resource


Score = Callable[..., Answer]


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Score:
    """Runs `riskcards score ...` through the console entry point, where exit codes are decided."""
    monkeypatch.chdir(EXAMPLES.parent)

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["riskcards", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return Answer(int(left.value.code or 0), said.out, said.err)

    return run


def test_a_patient_in_a_file_gets_a_valid_risk_assessment(score: Score) -> None:
    answer = score(HOME, "--encounter", "stay", *DISCHARGE, "--json")
    assert answer.code == 0, answer.err
    resource = answer.assessment()
    (prediction,) = resource["prediction"]
    assert 0 < prediction["probabilityDecimal"] < 1
    assert resource["occurrenceDateTime"].startswith("2024-05-09T11:00:00")
    assert resource["encounter"] == {"reference": "Encounter/stay"}
    assert any(line["text"].startswith("LACE") for line in resource["note"])


def test_without_json_a_person_can_read_it(score: Score) -> None:
    answer = score(ICU, "--task", "in_hospital_mortality", "--as-of", "2024-02-11T03:00:00Z")
    assert answer.code == 0, answer.err
    assert "cohort average" in answer.out
    assert "SAPS II" in answer.out


@pytest.mark.parametrize("as_json", [True, False])
def test_an_abstention_is_exit_4_with_its_reason_and_the_established_scores(score: Score, as_json: bool) -> None:
    answer = score(WARD, *(["--json"] if as_json else []))
    assert answer.code == 4
    if as_json:
        (prediction,) = answer.assessment()["prediction"]
        assert "probabilityDecimal" not in prediction
        assert prediction["rationale"].startswith("outside-population: ")
    assert "LACE" in answer.out


def test_a_chart_cut_into_files_is_the_same_patient(score: Score, tmp_path: Path) -> None:
    resources = [entry["resource"] for entry in json.loads(HOME.read_text("utf-8"))["entry"]]
    parts = []
    for number in range(3):
        part = tmp_path / f"part{number}.ndjson"
        part.write_text("".join(json.dumps(resource) + "\n" for resource in resources[number::3]))
        parts.append(part)
    options = ("--encounter", "stay", *DISCHARGE, "--json")
    whole, cut = score(HOME, *options).assessment(), score(*parts, *options).assessment()
    assert whole["prediction"][0]["probabilityDecimal"] == cut["prediction"][0]["probabilityDecimal"]


WRONG: list[tuple[str, list[str], int]] = [
    ("nothing given", [], 2),
    ("both given", [str(HOME), "--fhir-server", "http://127.0.0.1:9/fhir", "--patient", "p"], 2),
    ("a server without a patient", ["--fhir-server", "http://127.0.0.1:9/fhir"], 2),
    ("no such task", [str(HOME), "--task", "lottery"], 2),
    ("no such file", ["nowhere.json"], 2),
    ("a time that is none", [str(HOME), "--as-of", "yesterday"], 2),
    ("not JSON", ["tests/conftest.py"], 3),
    ("another patient than the file's", [str(HOME), "--patient", "somebody-else"], 3),
    ("nobody answers there", ["--fhir-server", "http://127.0.0.1:9/fhir", "--patient", "p"], 3),
    ("not a server's address", ["--fhir-server", "file:///etc", "--patient", "p"], 3),
    ("an id that is none", ["--fhir-server", "http://127.0.0.1:9/fhir", "--patient", "../admin"], 3),
]


@pytest.mark.parametrize(("name", "arguments", "code"), WRONG, ids=[row[0] for row in WRONG])
def test_wrong_use_is_2_and_bad_input_is_3(score: Score, name: str, arguments: list[str], code: int) -> None:
    answer = score(*arguments)
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert answer.err.strip()
    assert "Traceback" not in answer.err


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A FHIR server of this chart: reads by id, searches by patient; the types in `request.param` answer 403."""
    entries = json.loads(HOME.read_text("utf-8"))["entry"]
    chart = [entry["resource"] for entry in entries]
    refused: frozenset[str] = getattr(request, "param", frozenset())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            kind, _, identifier = parts.path.removeprefix("/fhir/").partition("/")
            body: dict[str, Any] | None = None
            if identifier:
                body = next((r for r in chart if (r["resourceType"], r["id"]) == (kind, identifier)), None)
            elif kind not in refused and "patient" in parse_qs(parts.query):
                found = [{"resource": r, "search": {"mode": "match"}} for r in chart if r["resourceType"] == kind]
                body = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "entry": found}
            data = json.dumps(body or {}).encode()
            self.send_response(200 if body else 403)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/fhir"
    running.shutdown()
    running.server_close()


def patient_id() -> str:
    entries = json.loads(HOME.read_text("utf-8"))["entry"]
    return next(str(e["resource"]["id"]) for e in entries if e["resource"]["resourceType"] == "Patient")


def test_a_patient_on_a_server_gets_the_answer_of_the_file(score: Score, server: str) -> None:
    options = ("--encounter", "stay", *DISCHARGE, "--json")
    answer = score("--fhir-server", server, "--patient", patient_id(), *options)
    assert answer.code == 0, answer.err
    assert answer.assessment()["prediction"] == score(HOME, *options).assessment()["prediction"]


@pytest.mark.parametrize("server", [frozenset({"Condition"})], indirect=True)
def test_conditions_the_server_withholds_are_unknown_not_none(score: Score, server: str) -> None:
    options = ("--encounter", "stay", *DISCHARGE, "--json")
    answer = score("--fhir-server", server, "--patient", patient_id(), *options)
    assert answer.code == 4, answer.err
    resource = answer.assessment()
    lace = next(line["text"] for line in resource["note"] if line["text"].startswith("LACE"))
    assert "missing" in lace
    assert "comorbidities" in lace


@pytest.mark.parametrize("folder", [False, True])
def test_a_site_map_translates_the_codes_of_a_site(score: Score, tmp_path: Path, folder: bool) -> None:
    """With its map a chart in local codes gets the answer of the same chart in LOINC; without, another."""
    asked = ("--task", "in_hospital_mortality", "--as-of", "2024-02-11T03:00:00Z")
    site = tmp_path / "site.yaml"
    site.write_text("name: here\nsystems: {'urn:here:lab': 'http://loinc.org'}\n", "utf-8")

    def answer(system: str, *more: str | Path) -> Any:
        chart = tmp_path / "charts" / "chart.json"
        chart.parent.mkdir(exist_ok=True)
        chart.write_text(ICU.read_text("utf-8").replace("http://loinc.org", system), "utf-8")
        if not folder:
            return json.loads(score(chart, *asked, "--json", *more).out)
        out = tmp_path / "out.ndjson"
        score(chart.parent, *asked, "--out", out, *more)
        return json.loads(out.read_text("utf-8"))

    expected = answer("http://loinc.org")
    assert answer("urn:here:lab", "--site-map", site) == expected
    assert answer("urn:here:lab") != expected
