"""The app's routes. Each request reads the chart again; no patient data are kept between requests.

    GET  {prefix}/{session}/                 the page
    GET  {prefix}/{session}/course           the risk over the stay, loaded after the first paint
    GET  {prefix}/{session}/drivers          the drivers with their literature, loaded after the first paint
    POST {prefix}/{session}/what-if          the estimate recalculated with other values
    GET  {prefix}/{session}/note/{key}       one note with its findings marked
    POST {prefix}/{session}/stay             the stay to estimate, where the EHR gave none
    POST {prefix}/{session}/feedback         useful or not, with a comment
    GET  {prefix}/{session}/style.css        the EHR's colours and sizes
    GET  {prefix}/static/{name}

`course`, `drivers` and `what-if` return a fragment to the app's script (header X-Fragment) and otherwise a whole page.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, g, make_response, render_template, request, send_from_directory

from cds_hooks import HookError
from cds_service.app_pages.access import tasks_shown
from cds_service.app_pages.chart import ChartSource, OpenChart
from cds_service.app_pages.course import CourseView, course_view, estimates_over, moments
from cds_service.app_pages.ehr_style import scheme_of, stylesheet
from cds_service.app_pages.page import banner_of, drivers_of, models_of, page_of
from cds_service.app_pages.stay_choice import chosen_stay
from cds_service.app_pages.what_if import PLACES, WhatIfAnswer, WhatIfQuestion, answers, changed, levers
from cds_service.explanations.notes import find_note, whole_note
from cds_service.hooks.estimate_records import estimate_record
from cds_service.hooks.hook_handler import HookHandler
from cds_service.store.errors import StoreError, TooMuchFeedbackError
from cds_service.store.store import CardRecord
from fhir_mapping import FhirMappingError, ForeignPatientError, PatientRecord
from risk_model import Assessment, Pipeline
from risk_model.reports import shared_stylesheet

LOG = logging.getLogger("riskcards")
SERVICE = "app"
"""The service name of the app's estimates and feedback in the store."""
MAX_COMMENT = 4_000
OPINIONS = {"useful": "useful", "not-useful": "not useful"}
# What to try, by status; the error's own words say what happened.
_ADVICE = {
    400: "Go back, correct the form and send it again.",
    403: "Nothing is wrong with the chart. Your site decides who sees estimates, and when.",
    412: "Check in the chart that it is the right patient and that the stay is recorded, then open the app again.",
    429: "Wait a minute, then open the app again.",
    503: "Wait a few seconds, then load this page again.",
}
_STATIC = Path(__file__).resolve().parents[1] / "static"
_FILES = frozenset({"app.css", "shared.css", "app.js", "app.svg", "ward.css"})


def app_pages(
    name: str, url_prefix: str, source: ChartSource, handler: HookHandler, frames: Sequence[str] = ()
) -> Blueprint:
    """Returns the app's blueprint for the charts of a source. `frames` may embed its pages when no chart is open."""
    pages = Blueprint(name, __name__, url_prefix=url_prefix)
    view = _Pages(source, handler)
    pages.add_url_rule("/<session>/", "page", view.page)
    pages.add_url_rule("/<session>/course", "course", view.course)
    pages.add_url_rule("/<session>/drivers", "drivers", view.drivers)
    pages.add_url_rule("/<session>/what-if", "what_if", view.what_if, methods=["POST"])
    pages.add_url_rule("/<session>/note/<key>", "note", view.note)
    pages.add_url_rule("/<session>/stay", "stay", view.stay, methods=["POST"])
    pages.add_url_rule("/<session>/style.css", "style", view.style)
    pages.add_url_rule("/<session>/feedback", "feedback", view.feedback, methods=["POST"])
    pages.add_url_rule("/static/<file>", "static_file", static_file)
    guard_pages(pages, frames)
    return pages


def guard_pages(pages: Blueprint, frames: Sequence[str]) -> None:
    """Gives a blueprint of pages the app's error pages and headers; `frames` may embed them."""
    pages.register_error_handler(HookError, _problem)
    pages.register_error_handler(FhirMappingError, _unusable)
    pages.register_error_handler(StoreError, _store_down)
    pages.register_error_handler(TooMuchFeedbackError, _much)
    pages.before_request(lambda: setattr(g, "frame_ancestors", " ".join(frames) or "'none'"))
    pages.after_request(_secure)


def static_file(file: str) -> Response:
    if file not in _FILES:
        raise HookError(404, "not-found", "This file does not exist.")
    if file.endswith(".css"):
        return Response(_stylesheets()[file], mimetype="text/css")
    return send_from_directory(_STATIC, file)


@cache
def _stylesheets() -> Mapping[str, str]:
    """The shared stylesheet, and the app's combined with it in one file to save a request before the first paint."""
    return {
        "shared.css": shared_stylesheet(),
        "app.css": shared_stylesheet() + (_STATIC / "app.css").read_text("utf-8"),
        "ward.css": (_STATIC / "ward.css").read_text("utf-8"),
    }


class _Pages:
    """The views over one source of charts."""

    def __init__(self, source: ChartSource, handler: HookHandler) -> None:
        self.source = source
        self.handler = handler

    def page(self, session: str) -> Response:
        chart, record = self._open(session)
        assessments = self._assess(chart, record)
        shown = self._record(session, chart, record, assessments)
        page = page_of(chart, record, assessments, self.handler.pipeline, shown)
        site = urlsplit(self.handler.settings.public_url).path.rstrip("/")
        return html_page("app_page.html", page=page, places=PLACES, opinions=OPINIONS, site=site)

    def course(self, session: str) -> Response:
        chart, record = self._open(session)
        courses, whole = self._courses(chart, record)
        return html_page(
            "app_course_page.html", "_app_course.html", courses=courses, whole=whole, **_head(chart, record)
        )

    def drivers(self, session: str) -> Response:
        chart, record = self._open(session)
        drivers = drivers_of(record, self._assess(chart, record), self.handler.pipeline)
        return html_page(
            "app_drivers_page.html", "_app_drivers.html", drivers=drivers, asked=True, **_head(chart, record)
        )

    def what_if(self, session: str) -> Response:
        chart, record = self._open(session)
        pipeline, before = self.handler.pipeline, self._assess(chart, record)
        offered = levers(before, record, models_of(before, pipeline))
        question, fault = WhatIfQuestion({}), ""
        try:
            question = WhatIfQuestion.of_form(request.form, offered)
        except HookError as error:
            fault = error.diagnostics
        compared: tuple[WhatIfAnswer, ...] = ()
        if question:
            after = self._assess(chart, changed(record, question))
            compared = answers([a.estimate for a in before], [a.estimate for a in after])
        response = html_page(
            "app_what_if_page.html",
            "_app_what_if.html",
            levers=question.shown(offered),
            places=PLACES,
            answers=compared,
            fault=fault,
            asked=bool(question),
            **_head(chart, record),
        )
        response.status_code = 400 if fault else 200
        return response

    def note(self, session: str, key: str) -> Response:
        chart, record = self._open(session)
        note = find_note(record.notes(), key)
        if note is None:
            raise HookError(404, "not-found", "This note is no longer in the chart.")
        findings = self.handler.pipeline.reader.read(record.notes()).findings
        return html_page("app_note.html", note=whole_note(note, findings), **_head(chart, record))

    def stay(self, session: str) -> Response:
        chart, _ = self._open(session)
        stay = chosen_stay(chart, request.form.get("stay", ""))
        if chart.choice is None or stay is None:
            raise HookError(404, "not-found", "This stay is not among those of the chart. Open the app again.")
        chart.choice.choose(stay.source)
        response = Response(status=303)
        response.headers["Location"] = "./"
        return response

    def style(self, session: str) -> Response:
        return Response(stylesheet(self.source(session).style), mimetype="text/css")

    def feedback(self, session: str) -> Response:
        chart = self.source(session)
        frame_page(chart.style, chart.frame_ancestors)
        opinion, shown = request.form.get("opinion", ""), request.form.get("view", "")
        comment = request.form.get("comment", "").strip()[:MAX_COMMENT]
        if opinion not in OPINIONS:
            raise HookError(400, "value", "Choose useful or not useful.")
        # Only the reader of the page has its id, so the id also protects the form against CSRF.
        store = self.handler.store
        if not 0 < len(shown) <= 36 or store.card_service(shown) != SERVICE or store.hook_of(shown) != _mark(session):
            raise HookError(404, "not-found", "This page has expired. Open the app again.")
        entry: dict[str, Any] = {"card": shown, "outcome": opinion, "outcomeTimestamp": datetime.now(UTC).isoformat()}
        if comment:
            entry["overrideReason"] = {"userComment": comment}
        store.add_feedback([entry], chart.user)
        self.handler.metrics.feedback(SERVICE, opinion)
        return html_page("app_thanks.html", "_app_thanks.html", opinion=OPINIONS[opinion], comment=bool(comment))

    def _open(self, session: str) -> tuple[OpenChart, PatientRecord]:
        """The chart and its record. Raises HookError: 403 if estimates may not be shown, else the source's."""
        chart = self.source(session)
        frame_page(chart.style, chart.frame_ancestors)
        tasks_shown(self.handler, chart.user, chart.tenant)
        try:
            return chart, chart.read()
        except ForeignPatientError:
            self.handler.store.record_event("foreign-patient", "", {"service": SERVICE})
            raise HookError(412, "conflict", "The chart contains data of another patient: no estimate.") from None

    def _assess(self, chart: OpenChart, record: PatientRecord) -> list[Assessment]:
        deadline = time.monotonic() + self.handler.settings.deadline_seconds
        pipeline = self._pipeline(chart)
        with self.handler.admission.enter():
            return [pipeline.assess(record, task, deadline) for task in pipeline.models]

    def _pipeline(self, chart: OpenChart) -> Pipeline:
        """The pipeline with the tasks that are not off."""
        pipeline = self.handler.pipeline
        return pipeline.only(self.handler.modes.active(pipeline.models, chart.tenant))

    def _record(self, session: str, chart: OpenChart, record: PatientRecord, assessments: Sequence[Assessment]) -> str:
        """Records the estimates before they are shown and returns the id. Raises StoreError: nothing is shown."""
        shown = str(uuid.uuid4())
        stay = record.current_stay.source if record.current_stay else None
        models = self.handler.pipeline.models
        self.handler.store.record_card(
            CardRecord(
                uuid=shown,
                service=SERVICE,
                hook_instance=_mark(session),
                patient=record.subject_id,
                encounter=stay,
                user=chart.user,
                indicator="info",
                shown="shown",
                estimates=[estimate_record(a.estimate, models[a.estimate.task]) for a in assessments],
                tenant=chart.tenant,
            )
        )
        return shown

    def _courses(self, chart: OpenChart, record: PatientRecord) -> tuple[tuple[CourseView, ...], bool]:
        """The risk over the stay of each task, and whether every time point was calculated before the deadline."""
        stay = record.current_stay
        if stay is None:
            return (), True
        deadline = time.monotonic() + self.handler.settings.deadline_seconds
        pipeline, admission = self._pipeline(chart), self.handler.admission
        estimated = list(estimates_over(chart.read, record, pipeline, admission, deadline))
        whole = len(estimated) == len(moments(stay.start, record.prediction_time))
        views = (
            course_view(task, stay.start, [(moment, estimates[task]) for moment, estimates in reversed(estimated)])
            for task in pipeline.models
            if estimated
        )
        return tuple(views), whole


def _mark(session: str) -> str:
    """The session as the store names it: feedback on a page is taken from the session that was shown it."""
    return hashlib.sha256(f"session {session}".encode()).hexdigest()[:36]


def _head(chart: OpenChart, record: PatientRecord) -> dict[str, Any]:
    return {"banner": banner_of(chart, record)}


def html_page(page: str, fragment: str | None = None, /, **values: Any) -> Response:
    """Returns the fragment for the app's script, otherwise the whole page."""
    wanted = fragment if fragment and request.headers.get("X-Fragment") == "1" else page
    depth = "../" if request.endpoint and request.endpoint.endswith(".note") else ""
    style = {"scheme": g.get("scheme", ""), "styled": g.get("styled", False)}
    return make_response(render_template(wanted, root=depth, **style, **values))


def _problem(error: HookError) -> Response:
    advice = _ADVICE.get(error.status, "Close the app and open it again from the patient's chart.")
    response = html_page("app_problem.html", reason=error.diagnostics, advice=advice, status=error.status)
    response.status_code = error.status
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _unusable(error: FhirMappingError) -> Response:
    return _problem(HookError(412, "structure", f"The chart cannot be used: {error}"))


def _much(_: TooMuchFeedbackError) -> Response:
    return _problem(HookError(429, "throttled", "This page has had enough feedback. Thank you.", retry_after=3600))


def _store_down(error: StoreError) -> Response:
    LOG.error("store %s", error)
    return _problem(
        HookError(
            503,
            "transient",
            "The audit store is unavailable. Try again in a moment.",
            retry_after=5,
        )
    )


def frame_page(style: Mapping[str, str], frame_ancestors: Sequence[str]) -> None:
    """Sets the EHR's style, and who may embed the answer to this request."""
    g.scheme = scheme_of(style)
    g.styled = bool(stylesheet(style))
    g.frame_ancestors = " ".join(frame_ancestors) or "'none'"


def _secure(response: Response) -> Response:
    ancestors = g.get("frame_ancestors", "'none'")
    response.headers["Content-Security-Policy"] = (
        f"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors {ancestors}"
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response
