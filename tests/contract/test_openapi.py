"""The service conforms to its OpenAPI document: schemathesis sends valid and invalid requests, checks the answers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings

from cds_hooks import openapi_document
from cds_service.application.openapi import described
from cds_service.services import SERVICES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import (
        content_type_conformance,
        not_a_server_error,
        response_schema_conformance,
        status_code_conformance,
    )

OPERATIONS = [
    (path, method)
    for path, item in openapi_document(SERVICES.values(), "http://x", described())["paths"].items()
    for method in item
    if method != "parameters"
]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{m} {p}" for p, m in OPERATIONS])
@pytest.mark.filterwarnings("ignore")
def test_answers_conform_to_the_openapi_document(app: Flask, path: str, method: str) -> None:
    operation = schemathesis.openapi.from_wsgi("/openapi.json", app)[path][method.upper()]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy())
    def conforms(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    conforms()


def test_every_route_is_described(app: Flask) -> None:
    described = {path for path, _ in OPERATIONS}
    routes = {rule.rule.replace("<", "{").replace(">", "}") for rule in app.url_map.iter_rules()}
    # Pages and steps of a launch are for browsers; SMART describes the launch.
    for_browsers = {r for r in routes if r.startswith(("/app/", "/launch", "/smart/", "/.well-known/"))}
    assert routes - described - for_browsers == {"/openapi.json"}
