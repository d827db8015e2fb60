"""How the notes were read, in sentences: by which reader, what was left out, and whether it changes the estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cds_service.cards.wording import counted, outcome_name
from risk_model import Assessment, NoteFindings, RiskEstimate


def reading_words(assessments: Sequence[Assessment]) -> tuple[str, ...]:
    """Returns one sentence a point; empty if no note was read. A language model is always named."""
    return tuple(_sentences(assessments)) if assessments[0].findings.notes_read else ()


def _sentences(assessments: Sequence[Assessment]) -> Iterator[str]:
    findings = assessments[0].findings
    if findings.language_notes or findings.waiting or findings.language_failed:
        yield _readers(findings)
    if findings.unanchored_dropped:
        claims = counted(findings.unanchored_dropped, "language model finding")
        yield f"Left out: {claims} not supported by the text of the notes."
    for assessment in assessments:
        estimate = assessment.estimate
        if estimate.voice is None and estimate.reasons:
            name = outcome_name(estimate.asked)
            yield f"Strongest note findings for {name}: {'; '.join(estimate.reasons)}."
    yield _effect([assessment.estimate for assessment in assessments])


def _readers(findings: NoteFindings) -> str:
    """Which reader read how many notes, and how many the language model has yet to read or could not."""
    by_rules = findings.notes_read - findings.language_notes
    model = findings.reader.rpartition("#")[2].rpartition("/")[2].removeprefix("language:")
    readers = [f"the language model {model} ({findings.language_notes})"] if findings.language_notes else []
    readers += [f"rules ({by_rules})"] if by_rules else []
    text = f"Read by {' and '.join(readers)}."
    if findings.waiting:
        text += f" {counted(findings.waiting, 'note')} not read by the language model yet."
    if findings.language_failed:
        text += f" The language model gave no usable answer for {counted(findings.language_failed, 'note')}."
    return text


def _effect(estimates: Sequence[RiskEstimate]) -> str:
    if not any(estimate.reads_notes for estimate in estimates):
        return "Findings in the notes are shown for information; they do not change the estimate."
    if any(estimate.anchor is not None for estimate in estimates):
        return "Language model findings can change the estimate within a limit, but never the alert level of the card."
    return "Findings in the notes are part of the estimate."
