"""The rows of cards: one for the card, others for its estimates and suggestions, and the audit entry over all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, insert, select

from cds_service.store import audit
from cds_service.store.key import StoreKey
from cds_service.store.schema import CARDS, ESTIMATES, SUGGESTIONS
from cds_service.store.values import CardRecord, CardTasks


class CardHashes(NamedTuple):
    """What is stored in place of ids."""

    patient: str
    scope: str
    user: str
    stay: str | None


def insert_card(connection: Connection, key: StoreKey, record: CardRecord, hashes: CardHashes) -> None:
    """Inserts a card, its estimates and suggestions, and the audit entry that covers them."""
    now = datetime.now(UTC)
    kept = {
        "service": record.service,
        "hook_instance": record.hook_instance,
        "patient_hash": hashes.patient,
        "client": record.client,
        "tenant": record.tenant,
        "shown": record.shown,
        "scope_hash": hashes.scope,
        "stay_hash": hashes.stay,
    }
    connection.execute(insert(CARDS).values(uuid=record.uuid, created=now, summary_kind=record.indicator, **kept))
    if estimates := _estimate_rows(record):
        connection.execute(insert(ESTIMATES), estimates)
    if record.suggestions:
        rows = [{"uuid": uuid, "card": record.uuid} for uuid in record.suggestions]
        connection.execute(insert(SUGGESTIONS), rows)
    audited = {
        "indicator": record.indicator,
        "user_hash": hashes.user,
        "estimates": list(record.estimates),
        "suggestions": sorted(record.suggestions),
    }
    audit.append(connection, key, "card", record.uuid, kept | audited, now)


def _estimate_rows(record: CardRecord) -> list[dict[str, Any]]:
    return [{"card": record.uuid, **estimate_row(estimate)} for estimate in record.estimates]


def estimate_row(estimate: Mapping[str, Any]) -> dict[str, Any]:
    """What the table of estimates has of one in the audit entry of its card."""
    return {
        "task": estimate["task"],
        "probability": estimate["probability"],
        "abstention": estimate["abstention"],
        "model": f"{estimate['model_id']} {estimate['model_version']}",
        "drivers": orjson.dumps(estimate["drivers"]).decode(),
    }


def cards_with(connection: Connection, condition: ColumnElement[bool]) -> list[CardTasks]:
    """The cards that meet a condition, the oldest first, each with the tasks of its estimates."""
    columns = (CARDS.c.uuid, CARDS.c.patient_hash, CARDS.c.client, CARDS.c.tenant, ESTIMATES.c.task)
    query = select(*columns).join(ESTIMATES, ESTIMATES.c.card == CARDS.c.uuid, isouter=True).where(condition)
    found: dict[str, CardTasks] = {}
    for row in connection.execute(query.order_by(CARDS.c.created)):
        about = found.setdefault(row.uuid, CardTasks(row.uuid, (row.patient_hash, row.client, row.tenant), set()))
        about.tasks.add(row.task)
    return list(found.values())
