"""Time limits of the service under test: so long that none passes, however busy the machine is.

A limit that passes changes an answer: a card without its literature, a 503, a launch refused. Only a test about a limit
sets a small one, through the settings or with `monkeypatch`.

    app = create_app(patient_settings({"RISKCARDS_DATABASE_URL": url}))
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
import requests

from cds_service.config.settings import Settings

PATIENT = 900.0
"""Seconds. A test that waits this long has failed."""
POLLED = 300.0
"""Seconds that `until` waits for a condition."""
SETTINGS = {f"RISKCARDS_{name}_SECONDS": f"{PATIENT:g}" for name in ("FETCH", "DEADLINE", "STORE")}
# Limits that are no settings, with their values outside tests.
LIMITS: dict[tuple[str, str], float] = {
    ("cds_service.app_pages.page", "SECONDS"): 1.0,
    ("cds_service.app_pages.smart_charts", "HELD_SECONDS"): 5.0,
    ("cds_service.demo.ward.fhir_server", "CHART_SECONDS"): 60.0,
    ("cds_service.demo.ward.fhir_server", "LIST_SECONDS"): 20.0,
    ("cds_service.background.read_ahead", "PATIENCE"): 0.3,
    ("cds_service.smart.chart", "CHART_SECONDS"): 20.0,
    ("cds_service.oauth.discovery", "DISCOVERY_SECONDS"): 4.0,
    ("cds_service.oauth.grant", "TOKEN_SECONDS"): 5.0,
    ("cds_service.smart.parts", "CHART_SECONDS"): 20.0,
    ("cds_service.smart.session", "LEASE_SECONDS"): 10,
    ("cds_service.smart.style", "STYLE_SECONDS"): 1.5,
    ("cds_service.store.engine", "_LOCKED_SECONDS"): 5.0,
    ("cds_service.monitoring.gauges", "WAIT_SECONDS"): 1.0,
    ("cds_service.application.control_socket", "SECONDS"): 5.0,
    ("cds_hooks.keys", "WAIT_SECONDS"): 2.0,
    ("cds_service.access.client_keys", "FETCH_SECONDS"): 1.0,
    ("fhir_mapping.notes.formats.sandbox", "JOB_SECONDS"): 2.5,
    ("fhir_mapping.notes.formats.sandbox", "RECORD_SECONDS"): 2.5,
    ("fhir_mapping.notes.formats.sandbox", "START_SECONDS"): 10.0,
}


def patient_settings(env: Mapping[str, str]) -> Settings:
    """Settings of `env`, with long limits where it names none."""
    return Settings.from_environment(SETTINGS | dict(env))


def patient(settings: Settings) -> Settings:
    """The same settings with long limits."""
    return settings.with_changes(fetch_seconds=PATIENT, deadline_seconds=PATIENT, store_seconds=PATIENT)


@contextmanager
def long_limits() -> Iterator[None]:
    """While it lasts, LIMITS are long. Fails for one that has another value than LIMITS says."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in LIMITS.items():
            assert getattr(importlib.import_module(module), name) == value, f"{module}.{name}"
            patch.setattr(f"{module}.{name}", PATIENT)
        yield


def until(condition: Callable[[], object], seconds: float = POLLED) -> bool:
    """Whether `condition` came true, looked at every twentieth of a second."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def responds(url: str) -> bool:
    """Whether a server answers there with success, now."""
    try:
        return requests.get(url, timeout=POLLED).ok
    except requests.RequestException:
        return False
