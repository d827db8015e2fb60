"""`riskcards mcp`: what its tools answer, and the whole way through the official client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from cds_service.commands.service.mcp import command
from cds_service.commands.service.mcp_tools import ReadOnlyTools, fenced, read_records
from fhir_mapping import InvalidInputError, PatientRecord
from risk_model import Pipeline
from risk_model.deidentification import Deidentifier
from tests.risk_model.deidentification.test_records import IDENTIFYING, resources

BY = Deidentifier(b"0123456789abcdef")
CLIENT = """
import asyncio, json, os, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    arguments = ["-c", "from cds_service.cli import main; main()", "mcp", "--demo"]
    server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as session:
        await session.initialize()
        listed = (await session.list_tools()).tools
        async def call(name, **arguments):
            return json.loads((await session.call_tool(name, arguments)).content[0].text)
        patients = await call("list_patients")
        print(json.dumps({
            "tools": [[tool.name, tool.annotations.read_only_hint] for tool in listed],
            "patients": patients,
            "explained": await call("explain_patient", patient=patients["patients"][0]["patient"]),
            "found": await call("search_literature", query="heart failure readmission", count=2),
            "card": await call("model_card", task="readmission_30d"),
            "wrong": await call("explain_patient", patient="nobody"),
        }))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def tools() -> ReadOnlyTools:
    return ReadOnlyTools(Pipeline.shipped(), [PatientRecord.from_resources(resources())], BY)


def test_patients_go_by_pseudonyms_and_nothing_identifies_them(tools: ReadOnlyTools) -> None:
    (patient,) = tools.patients()["patients"]
    assert patient["patient"] == BY.pseudonym("mrn-55512345")
    said = str([tools.patients(), tools.explain(patient["patient"], "readmission_30d"),
                tools.explain(patient["patient"], "in_hospital_mortality")])  # fmt: skip
    assert [word for word in IDENTIFYING if word in said] == []


def test_an_explanation_is_that_of_explain_with_foreign_text_fenced(tools: ReadOnlyTools) -> None:
    found = tools.explain(BY.pseudonym("mrn-55512345"), "in_hospital_mortality")
    assert {"probability", "interval", "drivers", "scores", "evidence", "cautions", "abstention"} <= found.keys()
    for paper in found["evidence"]:
        assert paper["title"].startswith("«")
        assert paper["title"].endswith("»")
    assert found["task"] == "in_hospital_mortality"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (lambda tools: tools.explain("nobody", "readmission_30d"), "list_patients"),
        (lambda tools: tools.explain("nobody", "x"), "readmission_30d"),
        (lambda tools: tools.search("", 5), "characters"),
        (lambda tools: tools.search("x" * 401, 5), "characters"),
        (lambda tools: tools.model_card("../../etc/passwd"), "no task"),
    ],
)
def test_a_wrong_question_says_what_to_ask(tools: ReadOnlyTools, question: Any, said: str) -> None:
    assert said in question(tools)["error"]


def test_the_literature_is_found_and_bounded(tools: ReadOnlyTools) -> None:
    articles = tools.search("heart failure readmission", 1000)["articles"]
    assert 0 < len(articles) <= 20
    assert all(article["title"].startswith("«") and article["pmid"].isdigit() for article in articles)


def test_a_text_cannot_end_its_fence() -> None:
    assert fenced({"title": "a » b « c", "task": "t"}) == {"title": "«a > b < c»", "task": "t"}
    assert fenced([{"x": ["»"]}, 1, None, True]) == [{"x": ["«>»"]}, 1, None, True]


def test_records_of_files_and_folders(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_bytes(orjson.dumps(resources()))
    assert len(read_records([file], None, None, [])) == 1
    with pytest.raises(InvalidInputError, match="--demo"):
        read_records([], None, None, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "--demo"), (["--demo", "FILE"], "--demo"), (["--demo", "--as-of", "2024-05-01"], "apply to FILES")],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "x.json").write_text("{}")
    result = CliRunner().invoke(command, [str(tmp_path / "x.json") if a == "FILE" else a for a in arguments])
    assert (result.exit_code, said in result.output) == (2, True)


def test_the_official_client_is_answered_on_standard_output_alone() -> None:
    pytest.importorskip("mcp", reason="the package mcp is not installed")
    env = dict(os.environ) | {"PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLIENT],
        capture_output=True, text=True, timeout=240, check=False, env=env,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = json.loads(ended.stdout)
    assert said["tools"] == [[name, True] for name in
                             ("list_patients", "explain_patient", "search_literature", "model_card")]  # fmt: skip
    assert len(said["patients"]["patients"]) > 5
    assert said["explained"]["task"] == "readmission_30d"
    assert len(said["found"]["articles"]) == 2
    assert said["card"]
    assert "list_patients" in said["wrong"]["error"]
    assert "de-identified" in ended.stderr
