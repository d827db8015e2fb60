"""Notes for stays that have none: a stated set of measurements leaves the structured record and is written in notes.

What moves is MOVED: everything about consciousness, ventilation and blood gases, kidneys and liver. Six notes in the
first 48 hours state it as their writers would: most of what is new since the last note, in numbers, in trends or in
words alone, with denials, copied passages, and sentences about relatives, goals and earlier years. The generator sees
a stay's measurements and nothing else: no outcome can reach it. The same stay and seed give the same notes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from benchmarks.cinc_fhir import ADMISSION, IcuStay, to_fhir
from benchmarks.note_styles import WRITING_STYLES, WritingStyle
from risk_model.first_stage.training_rows import patient_folds

MOVED: Mapping[str, str] = {
    "GCS": "gcs", "Urine": "urine", "MechVent": "mechanical_ventilation", "FiO2": "fio2", "pH": "ph", "PaO2": "pao2",
    "PaCO2": "paco2", "HCO3": "bicarbonate", "Lactate": "lactate", "Creatinine": "creatinine", "BUN": "bun",
    "Bilirubin": "bilirubin",
}  # fmt: skip
HOURS = (5.0, 12.0, 22.0, 29.0, 36.0, 46.5)
TITLES = ("Admission note", "Nursing note", "Progress note", "Nursing note", "Nursing note", "Progress note")
WRITTEN = 0.92
"""Share of what is new that a note states."""
IN_WORDS = 0.12
COPIES = 0.35
_DECIMALS = {"creatinine": 1, "bilirubin": 1, "lactate": 1, "ph": 2}
_SI = {"creatinine": 88.4, "bilirubin": 17.1, "pao2": 1 / 7.50062, "paco2": 1 / 7.50062}
# Upper ends of the bands, lowest first, with the grade of each band; above the last the final grade.
_BANDS: Mapping[str, tuple[tuple[float, int], ...]] = {
    "gcs": ((8.5, -2), (13.5, -1), (99, 0)),
    "lactate": ((2.05, 0), (4.05, 1), (999, 2)),
    "creatinine": ((1.25, 0), (3.05, 1), (999, 2)),
    "bun": ((20.5, 0), (60.5, 1), (9999, 2)),
    "bilirubin": ((1.25, 0), (5.05, 1), (999, 2)),
    "urine": ((10, -2), (30, -1), (200, 0), (99999, 1)),
    "bicarbonate": ((14.5, -2), (21.5, -1), (28.5, 0), (999, 1)),
}


@dataclass(frozen=True, slots=True)
class StatedValue:
    """What a note says of a concept, for measuring a reader: a number, or a grade, or a state's 1 or 0."""

    concept: str
    value: float | None = None
    grade: int | None = None


@dataclass(frozen=True, slots=True)
class WrittenNote:
    hour: float
    title: str
    text: str
    stated: tuple[StatedValue, ...]


Series = Mapping[str, Sequence[tuple[float, float]]]
"""Concept -> (hour since admission, value), in time order."""


def without_moved(stay: IcuStay) -> IcuStay:
    """The stay as the structured record keeps it."""
    return IcuStay(stay.record_id, tuple(row for row in stay.rows if row[1] not in MOVED))


def moved_series(stay: IcuStay) -> Series:
    """The measurements that leave the record; unknown (-1) and unreadable values leave no trace."""
    found: dict[str, list[tuple[float, float]]] = {}
    for time, parameter, value in stay.rows:
        if parameter in MOVED and value >= 0:
            hours, minutes = time.split(":")
            found.setdefault(MOVED[parameter], []).append((int(hours) + int(minutes) / 60, value))
    return {concept: sorted(items) for concept, items in found.items()}


def writing_style_of(record_id: str) -> int:
    """Which style a patient's notes are written in: by hash of the id."""
    return int(patient_folds([record_id])[0])


def with_notes(stay: IcuStay, seed: int) -> list[dict[str, Any]]:
    """FHIR resources of the stay without what moved, and its notes as DocumentReferences."""
    resources = to_fhir(without_moved(stay))
    for number, note in enumerate(written(stay, seed)):
        resources.append(_document(stay.record_id, number, note))
    return resources


def written(stay: IcuStay, seed: int) -> list[WrittenNote]:
    """The notes of a stay, oldest first."""
    writer = _Writer(
        WRITING_STYLES[writing_style_of(stay.record_id)], Random(f"{seed}|{stay.record_id}"), moved_series(stay)
    )
    return list(writer.notes())


class _Writer:
    def __init__(self, style: WritingStyle, random: Random, series: Series) -> None:
        self.style, self.random, self.series = style, random, series

    def notes(self) -> Iterator[WrittenNote]:
        since, admission = -1.0, ""
        for middle, title in zip(HOURS, TITLES, strict=True):
            hour = middle + self.random.uniform(-1, 1)
            lines: list[str] = []
            stated: list[StatedValue] = []
            for sentence, facts in self._facts(since, hour):
                lines.append(sentence)
                stated += facts
            order = list(range(len(lines)))
            self.random.shuffle(order)
            body = [lines[place] for place in order]
            body[len(body) // 2 : len(body) // 2] = self._asides()
            text = self._laid_out(body)
            if title == "Progress note" and admission and self.random.random() < COPIES:
                text = f"{text}\n\n{admission}"
            admission = admission or text
            yield WrittenNote(hour, title, text, tuple(stated))
            since = hour

    def _laid_out(self, body: Sequence[str]) -> str:
        half = (len(body) + 1) // 2
        first, second = (self.style.joint.join(part) for part in (body[:half], body[half:]))
        one, two = self.style.headings
        return f"{one}:\n{first}.\n\n{two}:\n{second or 'as above'}."

    def _asides(self) -> list[str]:
        """Sentences about others, other times and plans, and some about nothing at all."""
        chosen = self.random.sample(self.style.asides, self.random.randint(0, 2))
        aside = [sentence.format(n=self.random.choice((2.4, 5.6, 7.8, 61, 88))) for sentence in chosen]
        return [*aside, *self.random.sample(self.style.filler, self.random.randint(1, 2))]

    def _facts(self, since: float, until: float) -> Iterator[tuple[str, list[StatedValue]]]:
        """Sentences about what is new in (since, until], with what they state."""
        new = {c: [item for item in items if since < item[0] <= until] for c, items in self.series.items()}
        yield from self._ventilation(bool(new.get("mechanical_ventilation")), until)
        gas = [concept for concept in ("ph", "paco2", "pao2") if new.get(concept)]
        in_a_row = len(gas) == 3 and bool(new.get("fio2")) and self.random.random() < WRITTEN
        if in_a_row:
            yield self._gas({concept: items[-1][1] for concept, items in new.items() if items})
        if new.get("urine") and self.random.random() < WRITTEN:
            yield self._urine(new["urine"], since, until)
        for concept, items in new.items():
            done = in_a_row and concept in {"ph", "paco2", "pao2", "fio2"}
            if concept in {"mechanical_ventilation", "urine"} or done or not items or self.random.random() > WRITTEN:
                continue
            yield self._measured(concept, items)

    def _ventilation(self, now: bool, until: float) -> Iterator[tuple[str, list[StatedValue]]]:
        before = any(hour <= until for hour, _ in self.series.get("mechanical_ventilation", ()))
        phrases = self.style.ventilated if now else self.style.extubated if before else self.style.breathing
        if self.random.random() < (WRITTEN if now or before else 0.5):
            yield self.random.choice(phrases), [StatedValue("mechanical_ventilation", float(now))]

    def _gas(self, last: Mapping[str, float]) -> tuple[str, list[StatedValue]]:
        forms = [form for form in self.style.gas if "{hco3}" not in form or "bicarbonate" in last]
        words = {concept: self._shown(concept, last[concept]) for concept in ("ph", "paco2", "pao2", "fio2")}
        form = self.random.choice(forms)
        stated = [StatedValue(concept, last[concept]) for concept in words if f"{{{concept}}}" in form]
        if "{hco3}" in form:
            words["hco3"] = self._shown("bicarbonate", last["bicarbonate"])
            stated.append(StatedValue("bicarbonate", last["bicarbonate"]))
        return form.format(**words), stated

    def _urine(self, items: Sequence[tuple[float, float]], since: float, until: float) -> tuple[str, list[StatedValue]]:
        hours = max(1, round(until - max(since, 0.0)))
        volume = sum(value for _, value in items)
        rate = volume / hours
        if self.random.random() < IN_WORDS:
            grade = _grade("urine", rate)
            return self._graded("urine", grade), [StatedValue("urine_rate", None, grade)]
        form = self.random.choice(self.style.urine)
        return form.format(rate=round(rate), volume=round(volume), hours=hours), [StatedValue("urine_rate", rate)]

    def _measured(self, concept: str, items: Sequence[tuple[float, float]]) -> tuple[str, list[StatedValue]]:
        hour, value = items[-1]
        if concept in _BANDS and self.random.random() < IN_WORDS:
            grade = _grade(concept, value)
            return self._graded(concept, grade), [StatedValue(concept, None, grade)]
        others = [v for _, v in items[:-1] if self._shown(concept, v) != self._shown(concept, value)]
        forms, old = self.style.plain, value
        if others and self.random.random() < 0.45:
            low, high = min(others), max(others)
            forms = self.style.peak if high > value and self.random.random() < 0.5 else self.style.trend
            old = high if forms is self.style.peak else others[0] if self.random.random() < 0.5 else low
        stated = [StatedValue(concept, v) for v in dict.fromkeys((old, value))]
        unit = self.style.units.get(concept, "")
        sentence = self.random.choice(forms).format(
            name=self.style.names[concept],
            value=self._shown(concept, value),
            old=self._shown(concept, old),
            unit=unit,
            clock=f"{int(hour) % 24:02d}:{round(hour % 1 * 60) % 60:02d}",
        )
        return sentence.replace(" )", ")").replace(" ,", ",").rstrip(), stated

    def _graded(self, concept: str, grade: int) -> str:
        return self.random.choice(self.style.graded[f"{concept} {grade}"])

    def _shown(self, concept: str, value: float) -> str:
        """A number as this style writes it."""
        if concept == "fio2":
            return f"{round(100 * value)}%" if self.style.percent else f"{value:.2g}"
        unit = self.style.units.get(concept, "")
        if unit in {"umol/L", "kPa"}:
            return f"{value * _SI[concept]:.{1 if unit == 'kPa' else 0}f}"
        return f"{value:.{_DECIMALS.get(concept, 0)}f}"


def _grade(concept: str, value: float) -> int:
    return next(grade for border, grade in _BANDS[concept] if value <= border)


def _document(record_id: str, number: int, note: WrittenNote) -> dict[str, Any]:
    kind = ("34746-8", "Nurse Note") if note.title.startswith("Nurs") else ("11506-3", "Progress note")
    return {
        "resourceType": "DocumentReference",
        "id": f"note-{record_id}-{number}",
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": kind[0], "display": kind[1]}], "text": note.title},
        "subject": {"reference": f"Patient/cinc-{record_id}"},
        "date": (ADMISSION + timedelta(hours=note.hour)).isoformat(),
        "context": {"encounter": [{"reference": f"Encounter/icu-{record_id}"}]},
        "content": [
            {"attachment": {"contentType": "text/plain", "data": base64.b64encode(note.text.encode()).decode()}}
        ],
    }
