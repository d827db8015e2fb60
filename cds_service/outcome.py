"""Errors as FHIR OperationOutcome: the body of every answer that is not 200 (CDS Hooks 3.0)."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response

JSON = "application/json"


class HookError(Exception):
    """An answer other than 200. `code` is of FHIR's issue-type; `diagnostics` holds no patient data."""

    def __init__(self, status: int, code: str, diagnostics: str, *, retry_after: int | None = None) -> None:
        super().__init__(diagnostics)
        self.status = status
        self.code = code
        self.diagnostics = diagnostics
        self.retry_after = retry_after


def operation_outcome(code: str, diagnostics: str) -> dict[str, Any]:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": diagnostics}],
    }


def error_response(error: HookError) -> Response:
    response = json_response(operation_outcome(error.code, error.diagnostics), error.status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def json_response(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status=status, mimetype=JSON)
