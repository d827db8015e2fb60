"""Inputs that a patient lacks: data gaps to show, and those without which a model abstains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fhir_mapping import FeatureVector
from risk_model.core.values import Abstention, DataGap
from risk_model.features import inputs
from risk_model.first_stage import fusion

_ALWAYS_KNOWN = 0.999
_OFTEN_KNOWN = 0.25
_NAMED = 4


def gaps(manifest: Mapping[str, Any], row: inputs.Row, vector: FeatureVector) -> tuple[DataGap, ...]:
    """Returns the concepts that are unknown here though many training patients had them."""
    usual: dict[str, float] = {}
    known: set[str] = set()
    for item, value in zip(manifest["inputs"], row, strict=True):
        concept = inputs.gap_of(item["name"])
        usual[concept] = max(usual.get(concept, 0.0), item["known"])
        if np.isfinite(value):
            known.add(concept)
    missing = [concept for concept, share in usual.items() if concept not in known and share >= _OFTEN_KNOWN]
    return tuple(DataGap(inputs.label_of(name), vector.unknown.get(f"{name}.last", "unknown")) for name in missing)


def unlearned(manifest: Mapping[str, Any], row: inputs.Row, *, without_notes: bool) -> Abstention | None:
    """Returns an abstention if an input is unknown that was always known in training: nothing was learned of its
    absence.

    With `without_notes` inputs that notes move do not count: a language model that has not answered cannot make the
    model abstain.
    """
    missing = {
        inputs.label_of(inputs.concept_of(item["name"]))
        for item, value in zip(manifest["inputs"], row, strict=True)
        if item["known"] >= _ALWAYS_KNOWN and not np.isfinite(value)
        if not (without_notes and fusion.moved_by_notes(item["name"]))
    }
    if not missing:
        return None
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    named = ", ".join(sorted(missing)[:_NAMED]) + more
    return Abstention("input-unknown", f"Inputs that the model needs are not known: {named}.")
