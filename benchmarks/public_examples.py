"""How much of the published FHIR examples of several countries is used, of what is usable.

    python -m benchmarks.public_examples FOLDER [--out benchmarks/results/public_examples.json]

FOLDER has a clone of each collection below under the last part of its name (`US-Core`); fetch those you want, none is
part of this project. Every Observation in JSON or XML becomes a record of its own, with its Specimen and the report
that lists it. A usable value is a number (or a level of consciousness) of a result that is not in error, whose words
name a concept of `concepts.yaml` and no other specimen, place or setting; it is used if the record has a measurement
of it. What is usable is decided by the word lists below, not by the mapping, so that a code the mapping does not know
counts.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir.resources.R4B import get_fhir_model_class

from artifact_store import write_json
from fhir_mapping import PatientRecord
from fhir_mapping.resources import meaning_of

RESULT = Path(__file__).parent / "results" / "public_examples.json"
# Collection -> country: owner and name of public repositories that keep examples as JSON or XML. Many others keep
# them only as FHIR Shorthand, which has to be compiled first.
COLLECTIONS = {
    "HL7/US-Core": "United States",
    "NHSDigital/FHIR-R4-UKCORE-STAGING-MAIN": "United Kingdom",
    "hl7au/au-fhir-core": "Australia",
    "Nictiz/Nictiz-R4-zib2020": "Netherlands",
    "medizininformatik-initiative/mii-testdata": "Germany",
    "medizininformatik-initiative/kerndatensatzmodul-labor": "Germany",
    "hl7-be/lab": "Belgium",
    "fhir-fi/finnish-base-profiles": "Finland",
    "google/fhir": "HL7 FHIR R4 examples",
}
# Words of a code's display or text that name a concept, in the languages of the collections.
WORDS = {
    "heart_rate": r"heart ?rate|pulse rate|hartfrequentie|herzfrequenz|hjertefrekvens|^puls",
    "respiratory_rate": r"respiratory rate|respiration rate|atemfrequenz|ademhaling",
    "systolic_bp": r"systolic|systolisch|systolisk",
    "diastolic_bp": r"diastolic|diastolisch|diastolisk",
    "mean_bp": r"mean (arterial|blood) pressure|^mean blood|mittlerer arteriel",
    "temperature": r"body temp|lichaamstemp|k.rpertemp|core temp|legeme; temp",
    "spo2": r"oxygen saturation|saturation with oxygen|sauerstoffs.ttigung|zuurstofsaturatie|pulse ox",
    "gcs": r"glasgow coma (scale|score)(?!.*(eye|motor|verbal))",
    "weight": r"body weight|k.rpergewicht|lichaamsgewicht|body; mass =",
    "height": r"body height|body length|k.rpergr..e|lichaamslengte|body; height",
    "sodium": r"\b(sodium|natrium)\b",
    "potassium": r"\b(potassium|kalium)\b",
    "chloride": r"\b(chloride|chlorid|chloor)\b",
    "creatinine": r"\bcreatinin|kreatinin",
    "bun": r"urea nitrogen|\b(urea|ureum|harnstoff)\b",
    "glucose": r"\bgluco|\bglukos",
    "calcium": r"^(?!.*ioni[sz]ed)(?!.*frei).*\b(calcium|kalzium)\b",
    "magnesium": r"\bmagnesium\b",
    "phosphate": r"\bphosph(ate|at|orus)\b",
    "albumin": r"\balbumine?\b",
    "bilirubin": r"bilirubin[e.]*(total|gesamt| \[|$| tot)|total bilirubin",
    "alt": r"alanine aminotransferase|\balt\b|\balat\b|\bgpt\b",
    "ast": r"aspartate aminotransferase|\bast\b|\basat\b|\bgot\b",
    "alp": r"alkaline phosphatase|alkalische phosphatase",
    "lactate": r"\b(lactate|laktat) (?!dehydr)\[|^lactate$|^laktat$",
    "ldh": r"lactate dehydrogenase|\bldh\b",
    "ck": r"creatine kinase(?!.*mb)",
    "ggt": r"gamma.?glutamyl",
    "hemoglobin": r"^(?!.*(a1c|glyc|mch|mean|erythrocyte|corpuscular)).*\b(ha?emoglobin|h.moglobin|hb)\b(?! a)",
    "hematocrit": r"\bh.?ematocri|h.matokrit",
    "wbc": r"^(?!.*/100).*\b(leukocytes|leukozyten|leukocyten|leucocytes|white (blood )?cell)",
    "platelets": r"^(?!.*mean).*\b(platelets|thrombozyten|trombocyten|thrombocyten)\b",
    "inr": r"\binr\b",
    "hba1c": r"a1c",
    "crp": r"c.reactive protein|c-reaktives|\bcrp\b",
    "cholesterol": r"^(?!.*(hdl|ldl|vldl)).*cholesterol(?!.*in )",
    "hdl": r"cholesterol.*hdl|\bhdl\b",
    "ldl": r"cholesterol.*ldl|\bldl\b",
    "triglycerides": r"triglycerid",
    "egfr": r"glomerular filtration",
    "neutrophils": r"^(?!.*/100)(?!.*band).*neutrophil",
    "lymphocytes": r"^(?!.*/100).*lymphocyt",
    "mcv": r"mean corpuscular volume|\bmcv\b",
    "tsh": r"thyrotropin|thyroid stimulating|\btsh\b",
    "ferritin": r"ferritin",
    "troponin_t": r"troponin t",
    "troponin": r"troponin i",
    "esr": r"sedimentation rate|bezinking",
    "total_protein": r"^protein \[|total protein|totaal eiwit",
    "aptt": r"activated partial thromb(?!.*ratio)",
    "ph": r"^ph\b|\bph of",
    "pao2": r"oxygen \[partial pressure\] in arterial",
    "paco2": r"carbon dioxide \[partial pressure\] in arterial",
    "base_excess": r"base excess",
    "ionized_calcium": r"calcium[. ]ioni[sz]ed",
    "urine_output": r"^urine output",
    "consciousness": r"\ba?c?vpu\b|confusion voice pain|level of consciousness",
}
# What makes it another thing: specimens, places, settings, ratios, averages, susceptibilities, antibodies, genes.
OTHER = re.compile(
    r"urin|csf|cerebr|spinal|body fl|fluid|liquor|stool|sputum|semen|ratio|/creat|clearance|setting|target|goal|"
    r"ventric|atri|pulmonary|venous|fetal|birth|exhaled|inspir|ventilator|crrt|circuit|dialys|panel|24 ?h|1 hour|"
    r"2 hours|average|post |suscept|antibod|\bab\b|\big[gmae]\b|gene|fraction|percentile|z-score|screen|presence|"
    r"microalb|score\b.*rate|\bna \d+|\d+ ?g glu|non-hdl|erytro|erythro(?!cyte sed)|tolerance|waist|rate score|"
    r"pressure score|saturation score|temperature score|pulse score|tissue|tumou?r|dna|morphology|family|intake",
    re.IGNORECASE,
)
_PATTERNS = {name: re.compile(words, re.IGNORECASE) for name, words in WORDS.items()}
# LOINC codes of other specimens and conditions whose displays in the collections do not say so.
_OTHER_CODES = frozenset({"2350-7", "2161-8", "2342-4", "1552-9", "30405-5", "813-6", "13980-8", "14745-4", "83064-6"})
_UNUSABLE = frozenset({"entered-in-error", "cancelled", "registered", "unknown"})
Resource = dict[str, Any]


def resources(folder: Path) -> Iterator[tuple[Path, Resource]]:
    """Yields every resource in the JSON and XML files of a collection, of Bundles their entries."""
    for path in sorted(folder.rglob("*")):
        if path.suffix not in {".json", ".xml"} or ".git" in path.parts or path.name.startswith("package"):
            continue
        found = _json(path) if path.suffix == ".json" else _xml(path)
        for resource in _unpacked(found):
            yield path, resource


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _xml(path: Path) -> Any:
    raw = path.read_bytes()
    kind = re.search(rb"<(Observation|Bundle|Specimen|DiagnosticReport)\b[^>]*xmlns=.http://hl7.org/fhir", raw[:2000])
    if kind is None:
        return None
    model: Any = get_fhir_model_class(kind[1].decode())
    try:
        return json.loads(model.model_validate_xml(raw).model_dump_json())
    except (ValueError, LookupError, AttributeError):  # not an instance of R4: a template with placeholders
        return None


def _unpacked(found: Any) -> Iterator[Resource]:
    if isinstance(found, dict) and found.get("resourceType") == "Bundle":
        for entry in found.get("entry") or ():
            yield from _unpacked(entry.get("resource") if isinstance(entry, dict) else None)
    elif isinstance(found, dict) and isinstance(found.get("resourceType"), str):
        yield found


def usable(observation: Resource) -> list[str]:
    """Returns the concept of each usable value of an Observation and its components.

    >>> value = {"value": 140, "unit": "mmol/L"}
    >>> usable({"status": "final", "code": {"text": "Sodium, serum"}, "valueQuantity": value})
    ['sodium']
    >>> usable({"status": "final", "code": {"text": "Sodium in urine"}, "valueQuantity": value})
    []
    """
    if observation.get("status") in _UNUSABLE:
        return []
    components = observation.get("component")
    parts = [observation, *(part for part in components or () if isinstance(part, dict))]
    whole = _words(observation)
    found = []
    for part in parts:
        words = _words(part)
        if OTHER.search(" ".join(words)) or OTHER.search(" ".join(whole)) or part.get("dataAbsentReason"):
            continue
        if not _OTHER_CODES.isdisjoint(_codes(part)):
            continue
        named = {name for name, pattern in _PATTERNS.items() if any(map(pattern.search, words))}
        if not words:
            named = {meant.name} if (meant := meaning_of(part.get("code")).concept) else set()
        if len(named) == 1 and _has_value(part, next(iter(named))):
            found.append(next(iter(named)))
    return found


def _words(part: Resource) -> list[str]:
    code = part.get("code")
    listed = code.get("coding") if isinstance(code, dict) else None
    displays = [item.get("display") for item in listed or () if isinstance(item, dict)]
    return [
        word.lower()
        for word in (code.get("text") if isinstance(code, dict) else None, *displays)
        if isinstance(word, str)
    ]


def _codes(part: Resource) -> set[str]:
    code = part.get("code")
    listed = code.get("coding") if isinstance(code, dict) else None
    return {str(item.get("code")) for item in listed or () if isinstance(item, dict)}


def _has_value(part: Resource, concept: str) -> bool:
    if concept == "consciousness":
        return "valueCodeableConcept" in part or "valueString" in part
    quantity = part.get("valueQuantity")
    if isinstance(quantity, dict):
        number = quantity.get("value")
        return isinstance(number, int | float) and not quantity.get("comparator")
    return isinstance(part.get("valueInteger"), int)


def used(observation: Resource, others: list[Resource]) -> tuple[Counter[str], list[str]]:
    """Returns the concepts measured in one Observation, and why others of it were refused."""
    subject = {"reference": "Patient/p"}
    own = {name: value for name, value in observation.items() if name not in {"encounter", "focus", "performer"}}
    own |= {"id": "o", "subject": subject}
    listing = [report | {"subject": subject} for report in others]
    record = PatientRecord.from_resources(
        [{"resourceType": "Patient", "id": "p"}, own, *listing], prediction_time="2200-01-01T00:00:00Z"
    )
    found = Counter(item.concept for item in record.measurements if item.source == "Observation/o")
    found["consciousness"] += record.consciousness is not None
    return found, [f"{refusal.detail}: {refusal.reason}" for refusal in record.refused if refusal.detail]


def measure(folder: Path) -> dict[str, Any]:
    """Returns usable and used values of a collection, and the reasons and codes of what was not used."""
    listed = [resource for _, resource in resources(folder)]
    specimens = {r.get("id"): r for r in listed if r["resourceType"] == "Specimen"}
    reports: dict[str, Resource] = {}
    for report in (r for r in listed if r["resourceType"] == "DiagnosticReport"):
        for result in report.get("result") or ():
            reports[str(result.get("reference", "")).rpartition("/")[2]] = report
    total, taken = 0, 0
    why: Counter[str] = Counter()
    for observation in (r for r in listed if r["resourceType"] == "Observation"):
        wanted = usable(observation)
        if not wanted:
            continue
        identifier = str(observation.get("id"))
        beside = [_with_result(reports[identifier])] if identifier in reports else []
        reference = str((observation.get("specimen") or {}).get("reference", "")).rpartition("/")[2]
        beside += [specimens[reference]] if reference in specimens else []
        found, refusals = used(observation, beside)
        total += len(wanted)
        for concept, number in Counter(wanted).items():
            taken += min(number, found[concept])
            if number > found[concept]:
                reason = next((r for r in refusals if r.startswith(concept)), f"{concept}: {_code(observation)}")
                why[reason] += number - found[concept]
    return {
        "usable": total,
        "used": taken,
        "share": round(taken / total, 3) if total else None,
        "not_used": dict(why.most_common(25)),
    }


def _with_result(report: Resource) -> Resource:
    return report | {"result": [{"reference": "Observation/o"}]}


def _code(observation: Resource) -> str:
    code = observation.get("code")
    listed = code.get("coding") if isinstance(code, dict) else None
    return (
        ", ".join(f"{item.get('system')}#{item.get('code')}" for item in listed or () if isinstance(item, dict))
        or "no code"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name, country in COLLECTIONS.items():
        folder = options.folder / name.rpartition("/")[2]
        found[name] = {"country": country} | (measure(folder) if folder.is_dir() else {"absent": True})
    total = sum(item.get("usable", 0) for item in found.values())
    taken = sum(item.get("used", 0) for item in found.values())
    write_json(
        options.out, {"usable": total, "used": taken, "share": round(taken / max(1, total), 3), "collections": found}
    )
    sys.stdout.write(f"{taken} of {total} usable values used ({taken / max(1, total):.3f})\n")


if __name__ == "__main__":
    main()
