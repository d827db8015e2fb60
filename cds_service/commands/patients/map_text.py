"""The readable form of a record for `riskcards map` without --json."""

from __future__ import annotations

from collections import Counter

from fhir_mapping import FeatureVector, Note, PatientRecord


def as_text(record: PatientRecord, form: str, budget: int) -> str:
    if form == "markdown":
        return record.to_markdown(budget)
    if form == "codes":
        return record.to_codes(budget)
    head = f"{record.subject_id} as of {record.prediction_time:%Y-%m-%d %H:%M} UTC\n"
    if form == "notes":
        return head + _notes(record.notes())
    if form == "meds":
        rows = (f"{row['time'] or 'static':<34}{row['code']:<44}{_value(row)}" for row in record.to_meds())
        return head + "\n".join(rows)
    return head + _features(record.features())


def _value(row: dict[str, object]) -> str:
    return str(row["numeric_value"] if row["numeric_value"] is not None else row["text_value"] or "")


def _features(vector: FeatureVector) -> str:
    lines = []
    wide = 2 + max((len(name) for name in (*vector.values, *vector.unknown)), default=0)
    for name, feature in vector.values.items():
        when = "" if feature.time is None else f"{feature.time:%Y-%m-%d %H:%M}"
        value = feature.value if isinstance(feature.value, str) else f"{feature.value:g}"
        lines.append(f"  {name:<{wide}}{value:>12} {feature.unit or '':<10}{when:<18}{', '.join(feature.sources[:2])}")
    lines.append(f"\nunknown ({len(vector.unknown)})")
    lines += [f"  {name:<{wide}}{reason}" for name, reason in vector.unknown.items()]
    lines.append(f"\nrefused ({len(vector.refused)})")
    lines += [f"  {reason:<32}{count}" for reason, count in Counter(r.reason for r in vector.refused).most_common()]
    return "\n".join(lines)


def _notes(notes: tuple[Note, ...]) -> str:
    lines = [f"{len(notes)} notes"]
    for note in notes:
        when = "time unknown" if note.time is None else f"{note.time:%Y-%m-%d %H:%M}"
        lines.append(
            f"\n== {note.type} · {when} · {note.source} · {note.status}{f' ({note.reason})' if note.reason else ''}"
        )
        lines.append(note.text)
    return "\n".join(lines)
