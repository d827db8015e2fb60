"""Which services use this database, and when they last did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Engine, delete, func, insert, select, update

from cds_service.store.engine import aware, reading
from cds_service.store.errors import named
from cds_service.store.schema import CARDS, SERVICES


@dataclass(frozen=True, slots=True)
class ServiceUse:
    """One service that used the database: its public address, and when it was last seen."""

    name: str
    seen: datetime
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServiceUses:
    """store.services.mark(name, {...}) · .last() -> ServiceUse | None   Raise StoreError."""

    engine: Engine

    def mark(self, name: str, about: Mapping[str, Any]) -> None:
        """Notes that this service uses the database now."""
        now, body = datetime.now(UTC), orjson.dumps(about).decode()
        with named("the service could not be noted"), self.engine.begin() as connection:
            known = update(SERVICES).where(SERVICES.c.name == name).values(seen=now, about=body)
            if connection.execute(known).rowcount == 0:
                connection.execute(insert(SERVICES).values(name=name, started=now, seen=now, about=body))
            connection.execute(delete(SERVICES).where(SERVICES.c.seen < now.replace(year=now.year - 1, day=1)))

    def last(self) -> ServiceUse | None:
        """The service that was seen last; a card that was stored later counts too. None if none ever was."""
        newest = select(SERVICES).order_by(SERVICES.c.seen.desc()).limit(1)
        with reading(self.engine) as connection:
            found = connection.execute(newest).first()
            card = connection.execute(select(func.max(CARDS.c.created))).scalar()
        uses = [] if found is None else [ServiceUse(found.name, aware(found.seen), orjson.loads(found.about))]
        if card is not None:
            uses.append(ServiceUse("a service", aware(card), {}))
        return max(uses, key=lambda use: use.seen, default=None)
