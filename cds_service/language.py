"""Language models for the service: the way out to a hospital's model server, and readers by the settings' name.

One address is ever asked, the configured one: no redirects, checked addresses, capped bodies, a deadline (`outbound`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cds_service.outbound import Networks, Outbound, OutboundError
from cds_service.settings import Settings
from risk_model import RuleNoteReader
from risk_model.errors import LanguageModelError
from risk_model.language.named import RULES, ReaderName, language_model
from risk_model.language.reader import LanguageNoteReader
from risk_model.language.remote import Transport

MAX_ANSWER = 2**20


@dataclass(frozen=True, slots=True)
class ModelServers:
    """ModelServers(token_file, networks, seconds)(url) -> a transport to the model server at that URL

    The bearer token is read anew from its file for each request.
    """

    token_file: str = ""
    networks: tuple[str, ...] = ()
    seconds: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> ModelServers:
        return cls(settings.note_reader_token_file, settings.private_networks, settings.note_reader_seconds)

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


def reader_named(name: str, rules: RuleNoteReader, servers: ModelServers) -> RuleNoteReader | LanguageNoteReader:
    """The note reader of a name, which reads at once: for commands. A hook never waits for one (see `read_ahead`).

    Raises ModelArtifactError, MissingExtraError or ReaderNameError.
    """
    parsed = ReaderName.of(name)
    if parsed.kind == RULES:
        return rules
    return LanguageNoteReader(language_model(parsed, servers), rules, note_seconds=10 * servers.seconds)


def _token(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise LanguageModelError("no-token") from None
