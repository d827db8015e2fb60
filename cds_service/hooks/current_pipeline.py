"""The pipeline in use, which a reload of the index replaces while requests are served."""

from __future__ import annotations

from dataclasses import dataclass

from risk_model import Pipeline


@dataclass(slots=True)
class CurrentPipeline:
    """CurrentPipeline(pipeline).pipeline

    Read it once where one pipeline is needed throughout: it may be another one at the next access.
    """

    pipeline: Pipeline

    def replace(self, pipeline: Pipeline) -> None:
        """Replaces it for later requests; those in progress keep the pipeline that they read."""
        self.pipeline = pipeline
