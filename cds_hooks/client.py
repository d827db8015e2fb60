"""A CDS client, as in an EHR: discovers services, fills the prefetch, signs, calls, reads cards, sends feedback.

client = HookClient("https://cds.example.org", signer=TokenSigner("https://ehr.example.org", key, "key-1"))
service = client.discover()[0]
context = {"userId": "Practitioner/7", "patientId": "1"}
prefetch = service.fill_prefetch(context, FhirServer("https://ehr.example.org/fhir").read)
for card in client.call(service, context, prefetch).cards:
    print(card.indicator, card.summary)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import requests

from cds_hooks.cards import HookResponse
from cds_hooks.errors import (
    CallFailedError,
    CallRefusedError,
    CardError,
    FetchError,
    HookError,
    InvalidAnswerError,
    ServiceDefinitionError,
)
from cds_hooks.feedback import Feedback
from cds_hooks.hook_request import FhirAuthorization
from cds_hooks.services import ServiceDefinition
from cds_hooks.strict_json import parse_json
from cds_hooks.tokens import TokenSigner

MAX_ANSWER_BYTES = 10 * 2**20
_CHUNK_BYTES = 2**16


class FhirServer:
    """FhirServer("https://ehr.example.org/fhir", session).read("Patient/1") -> resource

    Authentication belongs to the session. Redirects are not followed: they could take a token to another host.
    """

    def __init__(self, base_url: str, session: requests.Session | None = None, timeout: float = 10.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._session = session or requests.Session()
        self._timeout = timeout

    def read(self, query: str) -> dict[str, Any]:
        """The resource, or the first page of the search. Raises FetchError."""
        headers = {"Accept": "application/fhir+json"}
        try:
            status, body = _exchange(
                self._session, "GET", f"{self.base_url}/{query}", headers, None, timeout=self._timeout
            )
        except CallFailedError as error:
            raise FetchError("unreachable") from error
        if status != 200:
            raise FetchError("status", status=status)
        try:
            return parse_json(body)
        except HookError:
            raise FetchError("not-json") from None


class HookClient:
    """HookClient("https://cds.example.org", session, signer). Without a `signer` calls carry no token.

    Raises CallFailedError, CallRefusedError with the status, and InvalidAnswerError.
    """

    def __init__(
        self,
        base_url: str,
        session: requests.Session | None = None,
        signer: TokenSigner | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._session = session or requests.Session()
        self._signer = signer
        self._timeout = timeout

    def discover(self) -> tuple[ServiceDefinition, ...]:
        """The services at the base URL."""
        answer = self._call("GET", "/cds-services")
        listed = answer.get("services")
        if not isinstance(listed, list):
            raise InvalidAnswerError("services: a list is required")
        try:
            return tuple(ServiceDefinition.from_json(each) for each in listed)
        except ServiceDefinitionError as error:
            raise InvalidAnswerError(str(error)) from None

    def call(
        self,
        service: ServiceDefinition,
        context: Mapping[str, Any],
        prefetch: Mapping[str, Any] | None = None,
        *,
        fhir_server: str | None = None,
        authorization: FhirAuthorization | None = None,
        hook_instance: str | None = None,
    ) -> HookResponse:
        """The cards of a service for one firing of its hook."""
        body = service.request_body(
            context, prefetch, fhir_server=fhir_server, authorization=authorization, hook_instance=hook_instance
        )
        answer = self._call("POST", f"/cds-services/{service.id}", body)
        try:
            return HookResponse.from_json(answer)
        except CardError as error:
            raise InvalidAnswerError(str(error)) from None

    def send_feedback(self, service: ServiceDefinition, feedback: Iterable[Feedback]) -> None:
        """Sends feedback on cards of this service."""
        entries = [entry.to_json() for entry in feedback]
        self._call("POST", f"/cds-services/{service.id}/feedback", {"feedback": entries}, answers=False)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, answers: bool = True
    ) -> dict[str, Any]:
        url = f"{self.base_url}{path}"
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._signer is not None:
            headers["Authorization"] = f"Bearer {self._signer.token(url)}"
        data = None if body is None else orjson.dumps(body)
        status, content = _exchange(self._session, method, url, headers, data, timeout=self._timeout)
        if status != 200:
            raise CallRefusedError(status, _outcome(content))
        if not answers:
            return {}
        try:
            return parse_json(content)
        except HookError as error:
            raise InvalidAnswerError(str(error)) from None


def _exchange(
    session: requests.Session, method: str, url: str, headers: Mapping[str, str], data: bytes | None, *, timeout: float
) -> tuple[int, bytes]:
    """(status, body) of one exchange, without redirects. Raises CallFailedError."""
    try:
        with session.request(
            method, url, headers=headers, data=data, timeout=timeout, allow_redirects=False, stream=True
        ) as answer:
            content = b""
            for chunk in answer.iter_content(_CHUNK_BYTES):
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise CallFailedError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
            return answer.status_code, content
    except requests.RequestException as error:
        raise CallFailedError(error.__class__.__name__) from None


def _outcome(content: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(content)
    except HookError:
        return None
    return found if found.get("resourceType") == "OperationOutcome" else None
