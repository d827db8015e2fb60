"""What `riskcards refresh` would write to the record, as lines of JSON; nothing is written, stored or queued."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

from cds_hooks import HookError
from cds_service.net.gateway import GatewayError
from cds_service.refresh.census import Inpatient
from cds_service.refresh.worker import RefreshWorker
from cds_service.refresh.write_back import WriteBack
from cds_service.smart.chart import fetch_chart

LATER = "assigned-by-the-server"


def dry_run(worker: RefreshWorker, write_back: WriteBack, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yields method, place and resource of every update, for each inpatient. Raises GatewayError."""
    census, tasks = worker.census(), worker.tasks()
    for number, one in enumerate(census.inpatients, start=1):
        say(f"{worker.server.name}: {number} of {len(census.inpatients)}")
        try:
            yield from _writes(worker, write_back, one, tasks)
        except (HookError, GatewayError) as error:
            say(f"{worker.server.name}: a chart could not be used: {error}")


def _writes(
    worker: RefreshWorker, write_back: WriteBack, one: Inpatient, tasks: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    server, handler = worker.server, worker.handler
    identifier = one.patient.partition("/")[2]
    chart = fetch_chart(server.gateway, server.base, server.token(), identifier, None, handler)
    record = chart.record()
    found = [handler.pipeline.assess(record, task) for task in tasks]
    for plan in write_back.planned(record, found, str(uuid.uuid4())):
        if plan.is_estimate:
            yield {"method": "PUT", "place": "RiskAssessment?identifier=...", "resource": plan.resource}
            made_by = write_back.provenance_of(plan, LATER, handler.clock())
            yield {"method": "PUT", "place": "Provenance?_tag=...", "resource": made_by}
