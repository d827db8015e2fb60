"""The queue of patients to estimate again, and the positions up to which a server's changes were read.

A job is one patient of one server. Asking again for one that waits, or is being worked on, adds no second job; a
request that comes while a worker has the job makes it due again afterwards. Unlike sealed entries, jobs do not expire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, delete, func, insert, or_, select, update

from cds_service.store.engine import aware, reading
from cds_service.store.errors import named
from cds_service.store.schema import REFRESH_JOBS, REFRESH_POSITIONS

_JOB = REFRESH_JOBS.c
_LOOKED_THROUGH = 64
"""Due jobs that a worker examines to find one that no other worker took meanwhile."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to add: `place` is a keyed hash, `body` encrypted, `due` the earliest time to work on it."""

    place: str
    server: str
    body: str
    due: datetime


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job that one worker has until its lease ends; `attempts` counts this one."""

    place: str
    server: str
    body: str
    asked: int
    attempts: int


@dataclass(frozen=True, slots=True)
class RefreshQueue:
    """store.refresh_queue.add([NewJob(...)]) · .take(server, now, lease) -> TakenJob | None · .done(job)

    Every method raises StoreError.
    """

    engine: Engine

    def add(self, jobs: Sequence[NewJob]) -> int:
        """Adds the jobs, all or none; returns how many were not waiting yet."""
        with named("the patients to estimate again could not be recorded"), self.engine.begin() as connection:
            return _add(connection, jobs)

    def advance(self, server: str, kind: str, position: str, jobs: Sequence[NewJob]) -> int:
        """Adds the jobs of a page of changes and the position after it in one transaction; returns the new jobs.

        A worker that is killed before has recorded neither, after it both.
        """
        with named("the position could not be recorded"), self.engine.begin() as connection:
            added = _add(connection, jobs)
            place = (REFRESH_POSITIONS.c.server == server, REFRESH_POSITIONS.c.kind == kind)
            values = {"body": position, "changed": datetime.now(UTC)}
            if connection.execute(update(REFRESH_POSITIONS).where(*place).values(**values)).rowcount == 0:
                connection.execute(insert(REFRESH_POSITIONS).values(server=server, kind=kind, **values))
            return added

    def position(self, server: str, kind: str) -> str | None:
        """The recorded position; None before the first."""
        place = (REFRESH_POSITIONS.c.server == server, REFRESH_POSITIONS.c.kind == kind)
        with reading(self.engine) as connection:
            return connection.execute(select(REFRESH_POSITIONS.c.body).where(*place)).scalar()

    def positions(self, server: str) -> dict[str, datetime]:
        """When each position of a server was recorded last."""
        query = select(REFRESH_POSITIONS.c.kind, REFRESH_POSITIONS.c.changed).where(
            REFRESH_POSITIONS.c.server == server
        )
        with reading(self.engine) as connection:
            return {row.kind: aware(row.changed) for row in connection.execute(query)}

    def take(self, server: str, now: datetime, lease: timedelta) -> TakenJob | None:
        """The job that has been due longest and that no other worker has; it is this worker's until the lease ends."""
        free = or_(_JOB.taken_until.is_(None), _JOB.taken_until <= now)
        due = (_JOB.server == server, _JOB.due <= now, free)
        query = select(_JOB.place).where(*due).order_by(_JOB.due, _JOB.place).limit(_LOOKED_THROUGH)
        with named("no job could be taken"):
            with reading(self.engine) as connection:
                places = list(connection.execute(query).scalars())
            for place in places:
                claimed = (
                    update(REFRESH_JOBS)
                    .where(_JOB.place == place, *due)
                    .values(taken_until=now + lease, attempts=_JOB.attempts + 1)
                    .returning(_JOB.place, _JOB.server, _JOB.body, _JOB.asked, _JOB.attempts)
                )
                with self.engine.begin() as connection:
                    row = connection.execute(claimed).first()
                if row is not None:
                    return TakenJob(*row)
        return None

    def done(self, job: TakenJob, now: datetime) -> bool:
        """Removes a job; False if it was asked for again meanwhile, which makes it due at once."""
        mine = (_JOB.place == job.place, _JOB.asked == job.asked)
        with named("the job could not be removed"), self.engine.begin() as connection:
            if connection.execute(delete(REFRESH_JOBS).where(*mine)).rowcount:
                return True
            again = {"taken_until": None, "due": now, "attempts": 0}
            connection.execute(update(REFRESH_JOBS).where(_JOB.place == job.place).values(**again))
        return False

    def put_off(self, job: TakenJob, due: datetime, *, counted: bool = True) -> None:
        """Gives a job back until a time; with `counted=False` this attempt does not count."""
        values = {"taken_until": None, "due": due, "attempts": job.attempts - (0 if counted else 1)}
        with named("the job could not be put off"), self.engine.begin() as connection:
            connection.execute(update(REFRESH_JOBS).where(_JOB.place == job.place).values(**values))

    def waiting(self, server: str) -> int:
        """The number of jobs, those that are being worked on included."""
        with reading(self.engine) as connection:
            return int(connection.execute(select(func.count()).where(_JOB.server == server)).scalar() or 0)


def _add(connection: Connection, jobs: Sequence[NewJob]) -> int:
    added = 0
    for job in sorted(jobs, key=lambda one: one.place):  # in one order, so that two writers never wait for each other
        asked_again = update(REFRESH_JOBS).where(_JOB.place == job.place).values(asked=_JOB.asked + 1)
        if connection.execute(asked_again).rowcount:
            continue
        values = {"place": job.place, "server": job.server, "body": job.body, "due": job.due}
        added += _inserted(connection, {**values, "asked": 1, "attempts": 0}, asked_again)
    return added


def _inserted(connection: Connection, values: dict[str, object], asked_again: object) -> int:
    """Inserts a job, unless another writer of PostgreSQL did since; SQLite has one writer at a time."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_or_leave

        query = insert_or_leave(REFRESH_JOBS).values(**values).on_conflict_do_nothing().returning(_JOB.place)
        if connection.execute(query).first() is not None:
            return 1
        connection.execute(asked_again)  # type: ignore[call-overload]
        return 0
    connection.execute(insert(REFRESH_JOBS).values(**values))
    return 1
