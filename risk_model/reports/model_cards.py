"""Model cards: the 31 predictive source attributes (45 CFR 170.315(b)(11)), from the training run itself.

The text that only a person can write is in `tables/card_<task>.json`; figures come from the run's own metrics.
Rendered as HTML, JSON and CHAI applied-model-card XML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import orjson

from risk_model.core.artifacts import open_manifest
from risk_model.core.tasks import Task, question_of
from risk_model.reports.templating import render

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "details": ("developer", "funding", "output_value", "output_type"),
    "purpose": ("intended_use", "intended_population", "intended_users", "decision_role"),
    "cautions": ("out_of_scope", "known_risks"),
    "development": (
        "inclusion_exclusion",
        "demographic_and_social_inputs",
        "representativeness",
        "relevance",
    ),
    "fairness": ("fairness_approach", "bias_mitigation"),
    "external_validation": ("data", "tester", "tested_representativeness", "process"),
    "performance": (
        "internal_validity",
        "internal_fairness",
        "external_validity",
        "external_fairness",
        "outcome_evaluations",
    ),
    "maintenance": ("validity_monitoring", "local_validity", "fairness_monitoring", "local_fairness"),
    "updates": ("update_process", "correction_frequency"),
}
NAMESPACE = "https://chai.org/applied-model-card"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """`attributes` is group -> attribute -> text; all 31 are there, each says something."""

    model_id: str
    version: str
    task: str
    title: str
    """Of the task, in words."""
    attributes: Mapping[str, Mapping[str, str]]

    def to_json(self) -> dict[str, Any]:
        return {
            "model_id": self.model_id,
            "version": self.version,
            "task": self.task,
            "attributes": {group: dict(texts) for group, texts in self.attributes.items()},
        }

    def to_html(self) -> str:
        return render(
            "model_card.html",
            title=f"Model card: {self.title}",
            model_id=self.model_id,
            version=self.version,
            out_of_scope=self.attributes["cautions"]["out_of_scope"],
            groups=[
                (_words(group), [(_words(name), _lines(text)) for name, text in texts.items()])
                for group, texts in self.attributes.items()
            ],
        )

    def to_chai_xml(self) -> str:
        """CHAI applied model card: one element per attribute under its group."""
        Xml.register_namespace("", NAMESPACE)
        root = Xml.Element(f"{{{NAMESPACE}}}AppliedModelCard", {"model": self.model_id, "version": self.version})
        for group, texts in self.attributes.items():
            section = Xml.SubElement(root, f"{{{NAMESPACE}}}{_camel(group)}")
            for name, text in texts.items():
                Xml.SubElement(section, f"{{{NAMESPACE}}}{_camel(name)}").text = text
        Xml.indent(root)
        return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def model_card(folder: Path) -> ModelCard:
    """The card of a model directory, after its hashes were checked. Raises ModelArtifactError."""
    manifest = open_manifest(folder)
    attributes = orjson.loads((folder / "card.json").read_bytes())
    title = question_of(manifest).title
    return ModelCard(manifest["model_id"], manifest["version"], manifest["task"], title, attributes)


def local_texts(about: Task, facts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Returns the texts of a model trained from a cohort folder; what the run cannot know is left to the site."""
    known = {"outcome": about.outcome, "horizon": about.horizon, **facts}
    texts = orjson.loads(files("risk_model.tables").joinpath("card_local.json").read_bytes())
    return {group: {name: text.format(**known) for name, text in names.items()} for group, names in texts.items()}


def training_card(
    task: str,
    metrics: Mapping[str, Any],
    *,
    rows: int,
    patients: int,
    texts: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, dict[str, str]]:
    """The attributes of a fresh model: hand-written text (`texts`, else the task's own) with the run's figures in it.

    Raises KeyError when the hand-written text lacks an attribute.
    """
    if texts is None:
        texts = orjson.loads(files("risk_model.tables").joinpath(f"card_{task}.json").read_bytes())
    assert texts is not None
    written = {
        group: {name: texts.get(group, {}).get(name, "") for name in names} for group, names in ATTRIBUTES.items()
    }
    performance = written["performance"]
    performance["internal_validity"] = _validity(metrics)
    performance["internal_fairness"] = _fairness(metrics)
    written["development"]["representativeness"] += f" Rows {rows}, patients {patients}."
    for group, names in written.items():
        for name, text in names.items():
            if not text.strip():
                raise KeyError(f"card_{task}.json: {group}.{name} is empty")
    return written


def _validity(metrics: Mapping[str, Any]) -> str:
    shown = ", ".join(
        f"{label} {_interval(metrics[name])}"
        for name, label in (
            ("auroc", "AUROC"),
            ("auprc", "AUPRC"),
            ("brier", "Brier"),
            ("calibration_slope", "calibration slope"),
            ("calibration_intercept", "calibration intercept"),
            ("observed_expected", "observed : expected"),
        )
    )
    rivals = "; ".join(
        f"{name} AUROC {_interval(group['auroc'])}"
        for name, group in metrics["comparators"].items()
        if "auroc" in group
    )
    rate = metrics["prevalence"]
    share = rate["value"] if isinstance(rate, Mapping) else rate
    beside = f" On the same rows: {rivals}." if rivals else " No established score could be computed on these rows."
    return f"{metrics['measured_on']}: {shown}; prevalence {share:.3f}.{beside}{_coverage(metrics)}"


def _coverage(metrics: Mapping[str, Any]) -> str:
    conformal = metrics.get("conformal")
    if conformal is None:
        return ""
    return f" 90 % prediction sets held the truth for {_interval(conformal['coverage'])}."


def _fairness(metrics: Mapping[str, Any]) -> str:
    parts = [
        f"{name} (n {group['rows']}): "
        + (
            f"AUROC {_interval(group['auroc'])}, observed : expected {_interval(group['observed_expected'])}"
            if "auroc" in group
            else "too few rows to report"
        )
        for name, group in metrics["subgroups"].items()
    ]
    return "; ".join(parts) + "." if parts else "No subgroups: neither age nor sex is recorded."


def _interval(metric: Mapping[str, Any]) -> str:
    low, high = metric["interval"]
    return f"{metric['value']:.3f} ({low:.3f} to {high:.3f})"


def _words(name: str) -> str:
    return name.replace("inclusion_", "inclusion and ").replace("_", " ").capitalize()


def _lines(text: str) -> list[str]:
    """The text in lines: figures of many groups one below the other, prose in one piece."""
    parts = text.split("; ")
    return [text] if len(parts) < 4 or "AUROC" not in text else parts


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
