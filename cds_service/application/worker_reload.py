"""A gunicorn master with zero-downtime worker reload.

gunicorn's own master stops the old workers when the new ones are forked, seconds before those can answer, and stops the
whole server if one worker fails to start. A model file that was damaged after the start would then take down a service
that has the intact one open.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from gunicorn.arbiter import Arbiter

_AGAIN_SECONDS = 5.0
_LOOK_SECONDS = 10.0
_NOT_STARTED = 5  # an exit status that the master ignores


class ReloadingArbiter(Arbiter):  # type: ignore[misc]
    """ReloadingArbiter(application).run()

    SIGHUP reloads settings, clients, models and index without downtime: the old workers stop when all new ones can
    answer. If a new worker fails to start, the old ones keep running. Address and number of workers do not change.
    A worker whose own memory grows by `growth_bytes` is replaced in the same way; 0: none is.
    """

    def __init__(self, app: Any, growth_bytes: int = 0) -> None:
        super().__init__(app)
        self.growth_bytes = growth_bytes
        self._created: dict[int, float] = {}
        self._stopping: set[int] = set()
        self._settled: dict[int, int] = {}
        self._looked = 0.0
        self.cfg.set("post_fork", _tolerate_failure)

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
        self._recycle()
        self._created = {pid: at for pid, at in self._created.items() if pid in self.WORKERS}
        self._stopping &= self._created.keys()

    def _recycle(self) -> None:
        """Replaces one worker whose memory has grown too far: its successor first, and one at a time.

        Which request a worker gets is the clients' choice, so a count of requests would let them replace all workers
        at once, beside the careful reload.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS or len(self.WORKERS) != self.num_workers:
            return
        self._looked = now
        self._settled = {pid: size for pid, size in self._settled.items() if pid in self.WORKERS}
        if not self.growth_bytes or not all(self._answers(*item) for item in self.WORKERS.items()):
            return
        for pid, worker in sorted(self.WORKERS.items(), key=lambda item: item[1].age):
            size = own_memory(pid)
            grown = size - self._settled.setdefault(pid, size)
            if grown > self.growth_bytes:
                self.log.info("worker %d has grown by %d MB and is replaced", pid, grown >> 20)
                worker.age = 0  # the oldest, whom the master stops when the successor answers
                self.spawn_worker()
                return

    def kill_worker(self, pid: int, sig: int) -> None:
        """Sends SIGTERM only once: a second one would interrupt the graceful stop."""
        if sig == signal.SIGTERM and pid in self._stopping:
            return
        if sig == signal.SIGTERM:
            self._stopping.add(pid)
        super().kill_worker(pid, sig)

    def _answers(self, pid: int, worker: Any) -> bool:
        """Whether the worker has reached its main loop: only there it updates its heartbeat."""
        return bool(worker.tmp.last_update() != self._created[pid])


def own_memory(pid: int) -> int:
    """Bytes that a process has for itself, without files it shares; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def _tolerate_failure(arbiter: ReloadingArbiter, worker: Any) -> None:
    """Runs in the new worker: its failure to start does not stop the server if older workers serve."""
    if worker.age > arbiter.num_workers:
        arbiter.WORKER_BOOT_ERROR = arbiter.APP_LOAD_ERROR = _NOT_STARTED
        load = worker.load_wsgi

        def load_or_wait() -> None:
            try:
                load()
            except Exception:
                time.sleep(_AGAIN_SECONDS)  # otherwise it would be restarted without a pause
                raise

        worker.load_wsgi = load_or_wait
