"""Note readers by name, and a model server over real HTTP that may misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cds_service.background.language_models import ModelServers, OpenedModels, reader_named
from cds_service.commands.service import doctor_language
from cds_service.commands.shared.model_sources import keeping, open_sources
from cds_service.config.settings import Settings
from cds_service.config.sources import SettingsError
from knowledge_index import KnowledgeIndex, MiniLMEncoder
from risk_model import RuleNoteReader
from risk_model.core.errors import LanguageModelError, ModelArtifactError
from risk_model.llm.llama_server import LlamaServer
from risk_model.llm.registry import ReaderName, ReaderNameError
from risk_model.llm_reader.note_reader import LanguageNoteReader
from risk_model.prompts.answers import AnswerFinding, ReaderAnswer
from tests.cds_service.model_server import ModelServer, model_server
from tests.patience import PATIENT
from tests.risk_model.conftest import NEEDS
from tests.risk_model.note_texts import note
from tests.risk_model.tiny_gguf import save_tiny_gguf

SAID = ReaderAnswer((AnswerFinding("pnuemonia", "Pneumonia"), AnswerFinding("septic shock", "Shock, Septic"))).to_text()


@pytest.fixture(scope="module")
def rules() -> RuleNoteReader:
    return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server(SAID) as state:
        yield state


def reader(
    server: ModelServer, rules: RuleNoteReader, token_file: str = "", seconds: float = PATIENT
) -> LanguageNoteReader:
    found = reader_named(f"{server.url}#small", rules, OpenedModels(ModelServers(token_file, (), seconds)))
    assert isinstance(found, LanguageNoteReader)
    return found


def test_an_endpoint_reads_and_unanchored_findings_are_dropped(
    server: ModelServer, rules: RuleNoteReader, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret\n", "ascii")
    found = reader(server, rules, str(tmp_path / "token")).read([note()])
    assert [(finding.name, finding.quote) for finding in found.findings] == [("Pneumonia", "pnuemonia")]
    assert (found.reader, found.language_notes, found.unanchored_dropped) == (f"language:{server.url}#small", 1, 1)
    asked = server.asked[0]
    assert asked["model"] == "small"
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["findings", "values", "cited"]
    assert server.tokens == ["Bearer secret"]


def test_a_server_with_the_older_parameter_is_supported(server: ModelServer, rules: RuleNoteReader) -> None:
    server.behaviour = "old"
    found = reader(server, rules).read([note()])
    assert found.language_notes == 1
    assert "guided_json" in server.asked[-1]


@pytest.mark.parametrize(("behaviour", "reason"), [
    ("slow", "too-slow"), ("garbage", "not-json"), ("null", "not-json"), ("rambles", "not-an-answer"),
    ("refuses", "refused"), ("401", "refused"), ("500", "status"), ("429", "status"), ("302", "status"),
    ("huge", "too-large"),
])  # fmt: skip
def test_a_server_that_misbehaves_costs_no_findings(
    server: ModelServer, rules: RuleNoteReader, behaviour: str, reason: str
) -> None:
    server.behaviour = behaviour
    asking = reader(server, rules, seconds=0.5 if behaviour == "slow" else PATIENT)
    found = asking.read([note()])
    assert found.findings == rules.read([note()]).findings
    assert (found.language_notes, found.language_failed) == (0, 1)
    with pytest.raises(LanguageModelError) as caught:
        asking.read_note(note())
    assert caught.value.reason == reason


def test_an_unreachable_server_and_a_missing_token_file(rules: RuleNoteReader, server: ModelServer) -> None:
    gone = reader_named("http://127.0.0.1:9/v1#small", rules, OpenedModels(ModelServers()))
    assert gone.read([note()]).language_failed == 1
    assert reader(server, rules, "/nowhere/token").read([note()]).language_failed == 1
    assert server.asked == []


@pytest.mark.parametrize("name", [
    "gpt", "", "https://llm.example/v1", "http://llm.example/v1#m", "https://user:x@llm.example/v1#m", "ftp://x/v1#m",
    "https://llm.example/v1?k=1#m",
])  # fmt: skip
def test_an_unknown_name_lists_the_known_ones(name: str, rules: RuleNoteReader) -> None:
    with pytest.raises(ReaderNameError):
        ReaderName.of(name)
    with pytest.raises(SettingsError, match="NOTE_READER"):
        Settings.from_environment({"RISKCARDS_NOTE_READER": name})


def test_names_select_the_reader(rules: RuleNoteReader) -> None:
    assert ReaderName.of("smollm2+./tuned").adapter == "./tuned"
    assert reader_named("rules", rules, OpenedModels(ModelServers())) is rules
    with pytest.raises((ModelArtifactError, ImportError)):
        reader_named("./no/such/model", rules, OpenedModels(ModelServers()))


def test_a_resumed_training_repeats_no_reading_and_no_embedding(server: ModelServer, tmp_path: Path) -> None:
    out = tmp_path / "model"
    for _ in range(2):
        opened = open_sources("minilm", f"{server.url}#small", beside=out).reader
        assert opened is not None
        assert opened.read([note()]).language_notes == 1
    assert len(server.asked) == 1
    shipped = MiniLMEncoder()
    assert keeping(shipped, "minilm", out) is shipped
    assert keeping(shipped, "hf:/models/of-the-site", None) is shipped
    of_the_site = keeping(shipped, "hf:/models/of-the-site", out)
    assert (of_the_site.name, of_the_site.fingerprint) == (shipped.name, shipped.fingerprint)
    of_the_site.encode(["a record"])
    assert {path.name for path in tmp_path.iterdir()} == {"model.readings.jsonl", "model.vectors"}


def test_the_doctor_and_the_threads_setting_know_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found without opening it; opened with as many threads as were set."""
    for package in ("xllamacpp", "gguf"):
        pytest.importorskip(package, reason=NEEDS)
    path = save_tiny_gguf(tmp_path / "tiny.gguf")
    settings = Settings(note_reader=str(path), note_reader_threads=1)
    assert doctor_language.note_reader(settings) == f"{path}, run by `riskcards read-ahead` with llama.cpp"
    asked: list[int | None] = []

    def start(self: LlamaServer, weights: Path, *, threads: int | None = None, context: int) -> None:
        asked.append(threads)
        raise ModelArtifactError("enough", path=str(weights))

    monkeypatch.setattr(LlamaServer, "__init__", start)
    for given in (settings, settings.with_changes(note_reader_threads=0)):
        with pytest.raises(ModelArtifactError, match="enough"):
            OpenedModels(ModelServers.of(given))(str(path))
    assert asked == [1, None]
