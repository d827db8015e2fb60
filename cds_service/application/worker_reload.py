"""gunicorn's master, so that workers that serve are given up only for workers that serve.

gunicorn's own sends the old workers away when the new ones were forked, seconds before those can answer; and one worker
that does not start, however long the others have served, shuts the whole server. A model file that was damaged on disk
after the start would then take down a service that has the good one open.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from gunicorn.arbiter import Arbiter

_AGAIN_SECONDS = 5.0
_NOT_STARTED = 5  # an exit status the master takes no notice of


class ReloadingArbiter(Arbiter):  # type: ignore[misc]
    """ReloadingArbiter(application).run()

    SIGHUP: new workers are started, and the old ones leave when all of the new can answer. Where a new one does not
    start, the old ones stay. Settings, clients, index and models are read anew by each worker; address and number of
    workers stay as they were.
    """

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._created: dict[int, float] = {}
        self._leaving: set[int] = set()
        self.cfg.set("post_fork", _bear_with)

    def spawn_worker(self) -> Any:
        pid = super().spawn_worker()  # returns in the master only
        self._created[pid] = self.WORKERS[pid].tmp.last_update()
        return pid

    def reload(self) -> None:
        self.log.reopen_files()
        for _ in range(self.num_workers):
            self.spawn_worker()

    def manage_workers(self) -> None:
        """Called about once a second."""
        youngest = sorted(self.WORKERS.items(), key=lambda item: item[1].age)[-self.num_workers :]
        if len(self.WORKERS) > self.num_workers and not all(self._answers(*item) for item in youngest):
            return
        super().manage_workers()
        self._created = {pid: at for pid, at in self._created.items() if pid in self.WORKERS}
        self._leaving &= self._created.keys()

    def kill_worker(self, pid: int, sig: int) -> None:
        """Told to leave once: a second SIGTERM would end it in the middle of leaving."""
        if sig == signal.SIGTERM and pid in self._leaving:
            return
        if sig == signal.SIGTERM:
            self._leaving.add(pid)
        super().kill_worker(pid, sig)

    def _answers(self, pid: int, worker: Any) -> bool:
        """Whether it came as far as its main loop: only there does a worker give signs of life."""
        return bool(worker.tmp.last_update() != self._created[pid])


def _bear_with(arbiter: ReloadingArbiter, worker: Any) -> None:
    """In the new process: one that follows others may fail to start, without an end to those."""
    if worker.age > arbiter.num_workers:
        arbiter.WORKER_BOOT_ERROR = arbiter.APP_LOAD_ERROR = _NOT_STARTED
        load = worker.load_wsgi

        def load_or_wait() -> None:
            try:
                load()
            except Exception:
                time.sleep(_AGAIN_SECONDS)  # or it would be tried anew without a pause
                raise

        worker.load_wsgi = load_or_wait
