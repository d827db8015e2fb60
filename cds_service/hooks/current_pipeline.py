"""The pipeline in use, which a reload of the index replaces while requests are served."""

from __future__ import annotations

from dataclasses import dataclass

from risk_model import Pipeline


@dataclass(slots=True)
class CurrentPipeline:
    """CurrentPipeline(pipeline).pipeline

    Whoever needs one pipeline throughout takes it once: `pipeline` may be another one at the next access.
    """

    pipeline: Pipeline

    def replace(self, pipeline: Pipeline) -> None:
        """Requests that began before go on with the pipeline they took."""
        self.pipeline = pipeline
