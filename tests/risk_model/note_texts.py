"""A note of our own words, with the offsets of its sections."""

from __future__ import annotations

from fhir_mapping import Note, Section

TEXT = (
    "Assessment: 78 year old with CHF exacerbation and pnuemonia; no chest pain. Cr 3.4 mg/dL (baseline 1.2), K 5.6.\n"
    "Family history: mother had breast cancer.\n"
)


def note(text: str = TEXT, source: str = "DocumentReference/1") -> Note:
    sections = []
    for name, title in (("assessment", "Assessment:"), ("family_history", "Family history:")):
        start = text.find(title)
        if start >= 0:
            following = [at for at in (text.find("Family history:"),) if at > start]
            sections.append(Section(name, title, start, min([*following, len(text)])))
    return Note("1", "Progress note", None, text, tuple(sections), source, "read", kind="progress_note")
