"""Which cohorts a model has seen, so that none of their rows is taken for new patients.

A manifest lists them under `cohorts_seen`: {"sha256", "patients_sha256", "use": "trained"|"recalibrated",
"splits": [...]}; manifests of earlier versions have `cohort` alone. A cohort built again from the same patients, with
another label or split, is recognised by its patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifact_store import sha256_of
from risk_model.cohorts.labelled_cohort import MANIFEST, PATIENTS, LabelledCohort
from risk_model.core.errors import TrainingError

SPLITS = ("train", "validation", "test")


def dataset_fingerprint(folder: Path) -> str:
    """The sha256 of a cohort's manifest, which holds those of its files."""
    return sha256_of(folder / MANIFEST)


def seen(cohort: LabelledCohort, use: str, splits: Sequence[str]) -> dict[str, Any]:
    """Returns the entry of a cohort of which a model has seen `splits`."""
    patients = str(cohort.manifest["sha256"][PATIENTS])
    return {
        "sha256": dataset_fingerprint(cohort.folder), "patients_sha256": patients, "use": use, "splits": list(splits),
    }  # fmt: skip


def splits_for(cohort: LabelledCohort, wanted: str, manifest: Mapping[str, Any]) -> tuple[str | None, str]:
    """(split to read or None for all, in words). `auto`: the splits that the model has not seen.

    Raises TrainingError for rows the model has seen: they would flatter it.
    """
    entries = _entries(cohort, manifest)
    if not entries:
        return (None, "all rows of a cohort the model never saw") if wanted in {"auto", "all"} else _words(wanted)
    known = {split for entry in entries for split in entry["splits"]}
    uses = " and ".join(dict.fromkeys(str(entry["use"]) for entry in entries))
    if any(entry["sha256"] != dataset_fingerprint(cohort.folder) for entry in entries):
        # The same patients in other splits: which of them it has seen is not known.
        known = set(SPLITS)
    left = [split for split in SPLITS if split not in known]
    if wanted == "auto" and left:
        return _words(left[-1])
    if not left:
        raise TrainingError(
            f"this model was {uses} on these patients and has seen all of them: they cannot judge it; evaluate on "
            "other patients, such as those of a later period"
        )
    if wanted not in left:
        raise TrainingError(
            f"this model was {uses} on this cohort: evaluate it on the {left[-1]} split (--split {left[-1]})"
        )
    return _words(wanted)


def all_seen(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the entries of a model; of a manifest of an earlier version the cohort it was trained on."""
    first = manifest.get("cohort", {}).get("sha256")
    if "cohorts_seen" in manifest or first is None:
        return list(manifest.get("cohorts_seen", ()))
    return [{"sha256": first, "patients_sha256": None, "use": "trained", "splits": ["train", "validation"]}]


def _entries(cohort: LabelledCohort, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = all_seen(manifest)
    marks = {dataset_fingerprint(cohort.folder), cohort.manifest["sha256"][PATIENTS]}
    return [entry for entry in listed if marks & {entry["sha256"], entry["patients_sha256"]}]


def _words(split: str) -> tuple[str, str]:
    return split, f"the {split} split, patients the model never saw"
