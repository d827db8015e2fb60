"""Reloads the index while the service runs."""

from __future__ import annotations

import logging
from threading import Event, Thread

from cds_service.hooks.current_pipeline import CurrentPipeline
from knowledge_index import KnowledgeIndexError

LOG = logging.getLogger(__name__)
SECONDS = 30.0


class IndexWatch:
    """IndexWatch(current).start()      checks every 30 seconds whether the index was rebuilt or updated

    The new index is opened beside the old one, which answers meanwhile. If it cannot be opened, that is logged and the
    old one stays in use.
    """

    def __init__(self, current: CurrentPipeline, seconds: float = SECONDS) -> None:
        self._current, self._seconds = current, seconds
        self._stopped = Event()

    def start(self) -> None:
        Thread(target=self._run, name="index-watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> bool:
        """Whether another generation was loaded."""
        old = self._current.pipeline
        try:
            new = old.refreshed()
        except (KnowledgeIndexError, OSError) as error:
            LOG.warning("the index changed and cannot be opened; the old one is still served: %s", error)
            return False
        if new is old:
            return False
        self._current.replace(new)
        LOG.info("index generation %s taken over, %d articles", new.index.manifest.generation, len(new.index))
        return True

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.check()
