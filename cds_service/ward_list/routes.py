"""The pages of the ward list. The patients are those that the EHR gives for the user's own token, read at each request.

    GET {prefix}/{session}/?outcome=TASK&unit=NAME    the list
    GET {prefix}/{session}/style.css                  the EHR's colours and sizes
    GET {prefix}/static/{name}

Estimates come from the store, where `riskcards refresh` keeps them; none is shown of a patient whom the user may not
read in the EHR. The audit entry of who looked at whom is stored before the list is shown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from flask import Blueprint, Response, request

from cds_hooks import HookError
from cds_service.app_pages.access import tasks_shown
from cds_service.app_pages.blueprint import frame_page, guard_pages, html_page, static_file
from cds_service.app_pages.ehr_style import stylesheet
from cds_service.net.gateway import GatewayError
from cds_service.oauth.vault import fingerprint
from cds_service.refresh.census import Census, read_census
from cds_service.refresh.estimates import FreshEstimates
from cds_service.refresh.jobs import RefreshJobs
from cds_service.services import SERVICES
from cds_service.smart.parts import CHART_SECONDS
from cds_service.smart.session import WARD_LIST, SessionParts, SmartSession, access_token, open_session
from cds_service.ward_list.rows import WardQuestion, WardView, is_usable, ward_view

AUDIT_KIND = "ward-list"
MAX_UNIT = 200
_SERVICE = SERVICES["hospital-risk"]


def ward_list_pages(
    parts: SessionParts, estimates: FreshEstimates, jobs: RefreshJobs, frames: Sequence[str] = ()
) -> Blueprint:
    """Returns the blueprint of the ward list under /ward. `frames` may embed its pages when no session is open."""
    pages = Blueprint(WARD_LIST, __name__, url_prefix=f"/{WARD_LIST}")
    view = _WardPages(parts, estimates, jobs)
    pages.add_url_rule("/<session>/", "page", view.page)
    pages.add_url_rule("/<session>/style.css", "style", view.style)
    pages.add_url_rule("/static/<file>", "static_file", static_file)
    guard_pages(pages, frames)
    return pages


class _WardPages:
    """The views of one service."""

    def __init__(self, parts: SessionParts, estimates: FreshEstimates, jobs: RefreshJobs) -> None:
        self.parts, self.estimates, self.jobs = parts, estimates, jobs

    def page(self, session: str) -> Response:
        opened, tenant = self._open(session)
        handler = self.parts.handler
        # Without a user there is nobody to write into the audit entry; a launch without one is refused.
        tasks = tasks_shown(handler, opened.user or "", tenant)
        task = _chosen(request.args.get("outcome", ""), tasks)
        census = self._census(opened)
        known = self.estimates.get_many(opened.client, sorted(census.patients))
        settings = handler.settings
        question = WardQuestion(
            task=task,
            tasks=tasks,
            unit=request.args.get("unit", "")[:MAX_UNIT],
            threshold=settings.thresholds_of(_SERVICE.id, _SERVICE.tasks)[task],
            oldest=timedelta(hours=settings.refresh_hours),
            zone=settings.zone(),
            refreshed=opened.client in settings.refresh_clients,
        )
        view = ward_view(census, known, question)
        self._record(opened, tenant, view)
        if question.refreshed:
            lacking = [
                one.patient
                for one in census.inpatients
                if not is_usable(one, known.get(one.patient), census.read, question.oldest)
            ]
            self.jobs.add(opened.client, lacking, census.read, at_once=True)
        return html_page("ward_list.html", view=view, hours=f"{settings.refresh_hours:g}")

    def style(self, session: str) -> Response:
        opened, _ = self._open(session)
        return Response(stylesheet(opened.style), mimetype="text/css")

    def _open(self, session: str) -> tuple[SmartSession, str | None]:
        opened = open_session(self.parts, session, request, WARD_LIST)
        frame_page(opened.style, opened.frame_ancestors)
        smart = self.parts.smart
        return opened, None if smart is None else smart.registration(opened.iss).client.tenant

    def _census(self, opened: SmartSession) -> Census:
        """The inpatients whom this user may read. Raises HookError 401, 403, 502."""
        smart, handler = self.parts.smart, self.parts.handler
        if smart is None:
            raise HookError(404, "not-found", "there is no such session")
        gateway, token = smart.registration(opened.iss).gateway, access_token(self.parts, opened)
        deadline = time.monotonic() + CHART_SECONDS
        try:
            return read_census(gateway, opened.iss, token, handler.clock(), deadline, handler.site_map)
        except GatewayError as error:
            raise _unreadable(error) from None

    def _record(self, opened: SmartSession, tenant: str | None, view: WardView) -> None:
        """Stores who looked, at which outcome, of whom. Raises StoreError: then nothing is shown."""
        store = self.parts.handler.store
        body = {
            "service": WARD_LIST,
            "user_hash": store.user_hash(opened.user or ""),
            "client": opened.client,
            "tenant": tenant,
            "task": view.task,
            "unit": view.unit,
            "ranked": len(view.ranked),
            "unranked": len(view.unranked),
            "patient_hashes": [store.patient_hash(each.partition("/")[2]) for each in view.patients],
        }
        store.record_event(AUDIT_KIND, fingerprint(opened.id), body)


def _chosen(outcome: str, tasks: Sequence[str]) -> str:
    """The outcome of the list. Raises HookError 404 for one that is not shown here."""
    if outcome and outcome not in tasks:
        raise HookError(404, "not-found", "This outcome is not estimated here, or it is switched off.")
    return outcome or tasks[0]


def _unreadable(error: GatewayError) -> HookError:
    if error.status == 401:
        return HookError(401, "login", "the EHR no longer grants access: launch the ward list again from the EHR")
    if error.status == 403:
        return HookError(403, "forbidden", "The EHR does not let you read its list of inpatients.")
    pause = 5 if error.retry_after is None else max(1, round(error.retry_after))
    return HookError(502, "transient", f"The EHR's list of inpatients could not be read ({error}).", retry_after=pause)
