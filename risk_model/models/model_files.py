"""Opens what surrounds a predictor in a model folder: its encoding, heads, a first stage, a rubric. Hashes are checked
before.

opened_sources(folder, open_manifest(folder), names)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from knowledge_index import Encoder
from knowledge_index.encoders import encoder_named
from risk_model.core.artifacts import read_signed_json
from risk_model.core.errors import ModelArtifactError, TaskDefinitionError
from risk_model.features import inputs
from risk_model.features.encoding import Encoding
from risk_model.features.note_inputs import NOTE
from risk_model.features.note_measurements import NOTED
from risk_model.features.rubrics import PREFIX as RUBRIC
from risk_model.features.rubrics import Rubric, parse_rubric
from risk_model.first_stage import fusion
from risk_model.first_stage.language_stage import LanguageStage
from risk_model.first_stage.note_stage import FILE, FORMAT, LANGUAGE_MODEL, REGRESSION, NoteStage
from risk_model.predictors.boosting import reference_rows, xgboost
from risk_model.predictors.file_formats import Predictor

RUBRIC_FILE = "rubric.yaml"
_SAME_MARGIN = 1e-3  # sums of float32 differ in their last digits between machines


def opened_sources(
    folder: Path, manifest: Mapping[str, Any], names: Sequence[str], encoder: Encoder | None = None
) -> fusion.RowSources:
    """Returns the objects that compute the inputs `names` of a model; `encoder` replaces the one that its heads name.

    Raises ModelArtifactError for a file that cannot be read, and for an input that nothing computes.
    """
    stage, rubric = _first_stage(folder, manifest), _rubric(folder, manifest)
    listed = read_signed_json(folder, manifest, "heads.json") or []
    try:
        heads = tuple(fusion.Head.from_json(head) for head in listed)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelArtifactError(f"not written by this version: {error}", path=str(folder)) from None
    _check_schema(names, _made(heads, stage, rubric), folder)
    if any(head.source != "notes" for head in heads):
        encoder = encoder or encoder_named(str(manifest.get("encoder")))
        _check_encoder(manifest.get("encoder_fingerprint"), encoder, folder)
    return fusion.RowSources(heads, encoder, rubric, stage)


def opened_encoding(manifest: Mapping[str, Any], names: Sequence[str], folder: Path) -> Encoding:
    """Returns the encoding of a model's inputs; the plain one for a model trained before there were encodings. Raises
    ModelArtifactError for an encoding that is not valid."""
    if "encoding" not in manifest:
        return Encoding.plain(names)
    try:
        return Encoding.from_json(names, manifest["encoding"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelArtifactError(
            f"not an encoding of this version: {error}; train the model again", path=str(folder)
        ) from None


def check_reads_alike(predictor: Predictor, encoding: Encoding, manifest: Mapping[str, Any], folder: Path) -> None:
    """Raises ModelArtifactError if the model gives the manifest's made-up patients other margins than when it was
    saved: then this version, or its xgboost, reads the file differently."""
    expected = manifest.get("reference_margins")
    if expected is None:  # a folder of an earlier version
        return
    found = predictor.margins(encoding.columns_of(reference_rows(manifest["inputs"])))
    if not np.allclose(found, expected, rtol=0, atol=_SAME_MARGIN):
        raise ModelArtifactError(
            f"its reference predictions come out differently with xgboost {xgboost().__version__}: install the version "
            "it was trained with, or train it again",
            path=str(folder / predictor.file),
        )


def _check_encoder(made_by: object, encoder: Encoder, folder: Path) -> None:
    """Rejects an encoder that is not the one the heads were fitted on."""
    if made_by is not None and made_by != encoder.fingerprint:
        raise ModelArtifactError(
            f"its heads were fitted on vectors of encoder {made_by}, and {encoder.name} is {encoder.fingerprint} now: "
            f"put that encoder back, or train again",
            path=str(folder),
        )


def _first_stage(folder: Path, manifest: Mapping[str, Any]) -> fusion.FirstStage | None:
    """Returns the first stage of a verified model folder; None if it has none."""
    raw = read_signed_json(folder, manifest, FILE)
    if raw is None:
        return None
    try:
        kind = raw.get("kind", REGRESSION)  # the first folders lack the key; they all hold a regression
        if raw["format"] != FORMAT or kind not in {REGRESSION, LANGUAGE_MODEL}:
            raise ValueError(f"format {raw['format']} of kind {kind}")
        return LanguageStage.from_json(raw) if kind == LANGUAGE_MODEL else NoteStage.from_json(raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelArtifactError(f"not a first stage of this version: {error}", path=str(folder / FILE)) from None


def _rubric(folder: Path, manifest: Mapping[str, Any]) -> Rubric | None:
    """Returns the rubric of a verified model folder."""
    if RUBRIC_FILE not in manifest["files"]:
        return None
    try:
        return parse_rubric((folder / RUBRIC_FILE).read_text("utf-8"), RUBRIC_FILE)
    except (OSError, UnicodeDecodeError, TaskDefinitionError) as error:
        raise ModelArtifactError(f"not a rubric of this version: {error}", path=str(folder / RUBRIC_FILE)) from None


def _made(heads: Sequence[fusion.Head], stage: fusion.FirstStage | None, rubric: Rubric | None) -> frozenset[str]:
    """Returns the names of the inputs that files of the model folder compute."""
    named = () if stage is None else stage.names
    return frozenset((*(head.name for head in heads), *named, *(() if rubric is None else rubric.names)))


def _check_schema(names: Sequence[str], made: frozenset[str], folder: Path) -> None:
    """Rejects inputs that this version cannot compute: they would always be unknown."""
    lost = [name for name in names if name not in made and name.startswith((RUBRIC, fusion.ESTIMATED))]
    if lost:
        raise ModelArtifactError(
            f"its manifest names no file that makes {lost[0]} (rubric.yaml, stage1.json): retrain the model",
            path=str(folder),
        )
    unknown = [
        name
        for name in names
        if name not in made
        and not name.startswith((fusion.FINDING, NOTE))
        and not inputs.can_be_computed(name.removeprefix(NOTED))
    ]
    if unknown:
        listed = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise ModelArtifactError(
            f"it needs inputs that this version cannot compute: {listed}; retrain the model",
            path=str(folder),
        )
