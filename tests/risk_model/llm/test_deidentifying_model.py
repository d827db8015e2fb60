"""Prompts to a model server carry no identifiers, and its quotes are found in the note."""

from __future__ import annotations

import orjson
import pytest

from fhir_mapping import Note
from knowledge_index import KnowledgeIndex
from risk_model import RuleNoteReader
from risk_model.llm import ReaderName, language_model
from risk_model.llm_reader import LanguageNoteReader
from risk_model.prompts import Prompt, RiskPrompt, Window

TEXT = (
    "Mr. Penhaligon, 93 y/o, MRN 55512345, was seen on 03/04/2021 by Dr. Igwe.\n"
    "His wife Octavia reports that pneumonia was treated at Wexcombe General Hospital on March 2.\n"
    "Call 312-555-0177. Sodium 128 on 03/04/2021."
)
IDENTIFYING = ("Penhaligon", "93", "55512345", "03/04/2021", "Igwe", "Octavia", "Wexcombe", "March 2", "555-0177")


class Server:
    """A transport that keeps what it was sent and quotes the note it was shown."""

    def __init__(self) -> None:
        self.sent = ""

    def __call__(self, body: bytes, _deadline: float | None) -> tuple[int, bytes]:
        self.sent += body.decode()
        asked = orjson.loads(body)
        shown = asked["messages"][-1]["content"].partition("<note>\n")[2].partition("\n</note>")[0]
        sentence = next(line for line in shown.splitlines() if "pneumonia" in line)
        schema = asked["response_format"]["json_schema"]["schema"]["properties"]
        said: dict[str, object] = {"risk": "high", "rationale": sentence}
        if "findings" in schema:
            finding = {"quote": sentence[:119], "name": "Pneumonia", "polarity": "present", "temporality": "current",
                       "experiencer": "patient"}  # fmt: skip
            said = {"findings": [finding], "values": [], "cited": []}
        answer = {"choices": [{"message": {"content": orjson.dumps(said).decode()}, "finish_reason": "stop"}]}
        return 200, orjson.dumps(answer)


@pytest.fixture(scope="module")
def rules() -> RuleNoteReader:
    return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


def test_a_quote_with_identifiers_in_it_is_anchored_in_the_note(rules: RuleNoteReader) -> None:
    server = Server()
    model = language_model(ReaderName.of("https://llm.example/v1#m"), lambda _url: server)
    note = Note("n", "Note", None, TEXT, (), "DocumentReference/n", "read")
    reading = LanguageNoteReader(model, rules, with_evidence=False).read_note(note)
    assert [word for word in IDENTIFYING if word in server.sent] == []
    (finding,) = reading.findings
    assert "Octavia" in finding.quote
    assert TEXT[finding.start : finding.end] == finding.quote
    assert reading.dropped == 0


def test_an_opinion_quotes_the_original_sentence() -> None:
    server = Server()
    model = language_model(ReaderName.of("https://llm.example/v1#m"), lambda _url: server)
    prompt = RiskPrompt(Window(TEXT, 0, (), "other", "n"), "in_hospital_mortality")
    (opinion,) = model.opinions([prompt])  # type: ignore[attr-defined]
    assert [word for word in IDENTIFYING if word in server.sent] == []
    assert opinion.reason in prompt.sentences
    assert "Wexcombe General Hospital" in opinion.reason
    assert not opinion.dropped


def test_a_prompt_without_identifiers_is_sent_as_it_is() -> None:
    server = Server()
    prompt = Prompt(Window("Assessment: pneumonia, CHF. Na 128.", 0, (), "progress_note", "n"), task="readmission_30d")
    language_model(ReaderName.of("https://llm.example/v1#m"), lambda _url: server).answer(prompt)
    asked = orjson.loads(server.sent)
    assert [m["content"] for m in asked["messages"]] == [m.content for m in prompt.messages]


def test_it_can_be_switched_off_and_readings_do_not_mix() -> None:
    server = Server()
    name = ReaderName.of("https://llm.example/v1#m")
    plain = language_model(name, lambda _url: server, deidentify=False)
    plain.answer(Prompt(Window(TEXT, 0, (), "other", "n")))
    assert "Penhaligon" in server.sent
    assert plain.fingerprint != language_model(name, lambda _url: server).fingerprint
    assert plain.name == language_model(name, lambda _url: server).name
