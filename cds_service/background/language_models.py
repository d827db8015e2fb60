"""Language models for the service: requests to a hospital's model server, and note readers by their name in settings.

Only the configured URL is called: no redirects, checked addresses, limited size and time (`outbound`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cds_service.config.settings import Settings
from cds_service.net.outbound import Networks, Outbound, OutboundError
from risk_model import TASKS, RiskModel, RuleNoteReader
from risk_model.core import LanguageModelError
from risk_model.first_stage import ImmediateOpinions
from risk_model.llm import RULES, LanguageModel, ReaderName, Transport, language_model
from risk_model.llm_reader import LanguageNoteReader, ReadingsFile
from risk_model.pipeline import OpinionSourceFactory

MAX_ANSWER = 2**20


@dataclass(frozen=True, slots=True)
class ModelServers:
    """ModelServers(token_file, networks, seconds)(url) -> a transport to the model server at that URL

    The bearer token is read from its file for each request. `threads` are for models on this machine.
    """

    token_file: str = ""
    networks: tuple[str, ...] = ()
    seconds: float = 60.0
    deidentify: bool = True
    """Whether prompts that leave are de-identified."""
    threads: int = 0
    """Of llama.cpp; 0: one for each core."""

    @classmethod
    def of(cls, settings: Settings) -> ModelServers:
        return cls(
            settings.note_reader_token_file,
            settings.private_networks,
            settings.note_reader_seconds,
            settings.note_reader_deidentify,
            settings.note_reader_threads,
        )

    def __call__(self, url: str) -> Transport:
        outbound = Outbound(Networks.of(self.networks).also(urlsplit(url).hostname or ""))

        def send(body: bytes, deadline: float | None) -> tuple[int, bytes]:
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            if self.token_file:
                headers["Authorization"] = f"Bearer {_token(Path(self.token_file))}"
            until = min(time.monotonic() + self.seconds, deadline or float("inf"))
            try:
                answer = outbound.request(
                    "POST", f"{url}/chat/completions", headers=headers, body=body, deadline=until, max_bytes=MAX_ANSWER
                )
            except OutboundError as error:
                raise LanguageModelError(error.reason) from None
            return answer.status, answer.body

        return send


class OpenedModels:
    """OpenedModels(servers)(name) -> the language model of that name, opened at the first call"""

    def __init__(self, servers: ModelServers) -> None:
        self.servers = servers
        self._opened: dict[str, LanguageModel] = {}

    def __call__(self, name: str) -> LanguageModel:
        """Raises ModelArtifactError, MissingExtraError or ReaderNameError."""
        if name not in self._opened:
            servers = self.servers
            self._opened[name] = language_model(
                ReaderName.of(name), servers, deidentify=servers.deidentify, threads=servers.threads or None
            )
        return self._opened[name]


def reader_named(
    name: str, rules: RuleNoteReader, opened: OpenedModels, kept: Path | None = None
) -> RuleNoteReader | LanguageNoteReader:
    """The note reader of a name, for commands: it reads at once. A hook never waits for one (see `read_ahead`).

    `kept` is a file that caches what a language model has read.

    Raises ModelArtifactError, MissingExtraError or ReaderNameError.
    """
    if ReaderName.of(name).kind == RULES:
        return rules
    known = None if kept is None else ReadingsFile(kept)
    return LanguageNoteReader(opened(name), rules, note_seconds=10 * opened.servers.seconds, known=known)


def asked_at_once(settings: Settings, opened: OpenedModels) -> OpinionSourceFactory:
    """First-stage opinions by language models, for commands: the estimate waits for them."""

    def listen(model: RiskModel) -> ImmediateOpinions:
        name = stage1_name(settings, model)
        evidence = model.asks is not None and model.asks.evidence
        return ImmediateOpinions(opened(name), model.question, opened.servers.seconds, evidence=evidence)

    return listen


def asking_models(settings: Settings) -> list[RiskModel]:
    """The served models that have a language model as first stage. Raises ModelArtifactError."""
    if not settings.models:
        return []
    opened = (RiskModel.open(Path(settings.models) / task) for task in TASKS)
    return [model for model in opened if model.asks is not None]


def stage1_name(settings: Settings, model: RiskModel) -> str:
    """The language model that is the first stage of this model, after its identity was checked.

    Raises ModelArtifactError, MissingExtraError or ReaderNameError.
    """
    assert model.asks is not None, "no first stage that asks a language model"
    name = settings.stage1_model(model.task, model.asks.model)
    model.asks.check(name)
    return name


def _token(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise LanguageModelError("no-token") from None
