"""Charts of SMART sessions: the patient's chart, read with the session's access token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from flask import request

from artifact_store import MemoryCache
from cds_service.app_pages.chart import ChartSource, OpenChart
from cds_service.smart.chart import FetchedChart
from cds_service.smart.session import SessionParts, SmartSession, choose_encounter, fetched_chart_of, open_session
from fhir_mapping import PatientRecord, Stay

HELD_SECONDS = 5.0
MOST_HELD = 8
"""Fetched charts are held for a few seconds by session, so that a page and its fragments use one read of the server."""


def smart_charts(parts: SessionParts) -> ChartSource:
    """Returns the chart of the session id in the URL, for the browser that launched it. Raises HookError 404, 401."""
    held: MemoryCache[FetchedChart] = MemoryCache(MOST_HELD, HELD_SECONDS)

    def chart_of(session_id: str, /) -> OpenChart:
        session = open_session(parts, session_id, request)
        reader = _Reader(parts, session, held)
        chart = OpenChart(
            reader,
            user=session.user or "",
            frame_ancestors=session.frame_ancestors,
            tenant=None if parts.smart is None else parts.smart.registration(session.iss).client.tenant,
            choice=reader if session.chosen or session.encounter_id is None else None,
            style=session.style,
        )
        return replace(chart, name=reader.name) if session.need_patient_banner else chart

    return chart_of


def frames_of(parts: SessionParts) -> tuple[str, ...]:
    """The origins of every EHR that may embed the app: the error page without a session is embedded too."""
    registrations = () if parts.smart is None else parts.smart.registrations.values()
    return tuple(sorted({place for each in registrations for place in each.client.frame_ancestors}))


class _Reader:
    """Reads the server at most once in a request, and only if a record is needed: feedback needs none."""

    def __init__(self, parts: SessionParts, session: SmartSession, held: MemoryCache[FetchedChart]) -> None:
        self._parts = parts
        self._session = session
        self._held = held
        self._place = f"{session.id} {session.encounter_id or ''}"
        self._fetched = held.get(self._place)

    def __call__(self, at: datetime | None = None, /, *, with_notes: bool = True) -> PatientRecord:
        return self._chart().record(at, with_notes=with_notes)

    def name(self) -> str:
        return name_of(self._chart().prefetch.to_json("patient"))

    def stays(self) -> Sequence[Stay]:
        chart = self._chart()
        return chart.record(chart.fetched, with_notes=False).stays

    def choose(self, stay: str) -> None:
        choose_encounter(self._parts, self._session, stay.removeprefix("Encounter/"))

    def _chart(self) -> FetchedChart:
        if self._fetched is None:
            self._fetched = fetched_chart_of(self._parts, self._session)
            self._held.put(self._place, self._fetched)
        return self._fetched


def name_of(patient: Any) -> str:
    """`Family, Given` of the official name, else of the first; empty without a usable name.

    >>> name_of({"name": [{"family": "Doe", "given": ["Ann", "B."]}]}), name_of({"name": "?"}), name_of(None)
    ('Doe, Ann B.', '', '')
    """
    listed = patient.get("name") if isinstance(patient, Mapping) else None
    names = [name for name in listed if isinstance(name, Mapping)] if isinstance(listed, list) else []
    if not names:
        return ""
    chosen = next((name for name in names if name.get("use") == "official"), names[0])
    given = chosen.get("given")
    parts = [part for part in given if isinstance(part, str)] if isinstance(given, list) else []
    family = chosen.get("family")
    words = f"{family if isinstance(family, str) else ''}, {' '.join(parts)}".strip(", ")
    return words or str(chosen.get("text") or "")
