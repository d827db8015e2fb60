"""A new generation of the index is taken over without a restart."""

from __future__ import annotations

import logging
from threading import Event, Thread

from cds_service.hooks.hook_handler import HookHandler
from knowledge_index import KnowledgeIndexError

LOG = logging.getLogger(__name__)
SECONDS = 30.0


class IndexWatch:
    """IndexWatch(answering).start()      looks every half minute whether the index was built anew or updated

    It is opened beside the old one, which answers until the new one stands; one that cannot be opened is told in the
    log, and the old one goes on.
    """

    def __init__(self, answering: HookHandler, seconds: float = SECONDS) -> None:
        self._answering, self._seconds = answering, seconds
        self._stopped = Event()

    def start(self) -> None:
        Thread(target=self._run, name="index-watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def look(self) -> bool:
        """Whether another generation was taken over."""
        old = self._answering.pipeline
        try:
            new = old.refreshed()
        except (KnowledgeIndexError, OSError) as error:
            LOG.warning("the index changed and cannot be opened; the old one is still served: %s", error)
            return False
        if new is old:
            return False
        self._answering.pipeline = new
        LOG.info("index generation %s taken over, %d articles", new.index.manifest.generation, len(new.index))
        return True

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.look()
