"""The detail of a card in GitHub Flavored Markdown: estimate, cohort average, drivers, notes, literature, data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from cds_service.cards.escape import gfm
from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.core import REASONS
from risk_model import (
    TASKS,
    Assessment,
    Driver,
    NoteFindings,
    Polarity,
    RiskEstimate,
    ScoreResult,
)

MAX_FINDINGS = 8
_REASONS = {
    "none-found": "never measured",
    "not-fetched": "not available to this service",
    "outside-window": "not measured in this stay",
    "not-coded": "not recorded",
    "no-stay": "no stay",
    "unknown": "not recorded",
    "censored": "only a bound such as <5",
    "implausible": "implausible value",
    "unit-conflict": "unit unclear",
    "no-unit": "unit missing",
    "unit-not-understood": "unit not understood",
    "imprecise": "too imprecise",
    "data-absent": "recorded as absent",
    "pressure-inverted": "systolic not above diastolic",
}
# What a clinician reads of data that were not used: (noun, rest), with the count before them.
_NOT_USED = {
    "more-notes-than-read": ("older note", "not read"),
    "same-note-again": ("duplicate note", ""),
    "note-unreadable": ("note", "unreadable"),
    "note-not-fetched": ("note", "not available to this service"),
    "implausible": ("implausible value", ""),
    "censored": ("value", "given only as a bound such as <5"),
    "data-absent": ("value", "recorded as absent"),
    "no-value": ("item", "without a value"),
    "no-unit": ("value", "without a unit"),
    "unit-conflict": ("value", "with an unclear unit"),
    "unit-not-understood": ("value", "with an unknown unit"),
    "pressure-inverted": ("blood pressure", "with systolic not above diastolic"),
    "same-time-other-value": ("value", "replaced by another of the same time"),
    "other-method-used": ("cuff pressure", "replaced by an arterial line pressure"),
    "code-not-mapped": ("item", "with an unrecognised code"),
    "family-history": ("item", "about a family member"),
    "not-confirmed": ("item", "recorded as unconfirmed"),
    "no-time": ("item", "without a usable time"),
}
# The training cohorts of the shipped models. A model trained by a site describes its own patients.
LEARNED_FROM = {
    "riskcards-icu-mortality-cinc2012": "adult intensive care stays, 2001–2008",
    "riskcards-readmission-diabetes130": "diabetic inpatients, 1999–2008",
}


def percent(probability: float) -> str:
    """
    >>> percent(0.004), percent(0.126), percent(0.997)
    ('less than 1 %', '13 %', 'more than 99 %')
    """
    if probability < 0.01:
        return "less than 1 %"
    return "more than 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def detail(assessments: Sequence[Assessment], record: PatientRecord) -> str:
    """One text for one or both tasks of a stay; what they share (data, notes, literature) appears once."""
    lines: list[str] = []
    for assessment in assessments:
        lines += [*_answer(assessment.estimate), ""]
    lines += [*_notes(assessments), *_literature(assessments), *_data(assessments, record)]
    return "\n".join(lines).strip()


def _answer(estimate: RiskEstimate) -> Iterator[str]:
    task = estimate.asked
    yield f"### {task.title}"
    yield ""
    if estimate.probability is not None and estimate.interval is not None:
        low, high = estimate.interval
        frequency = max(1, round(100 * estimate.probability))
        yield (
            f"**{percent(estimate.probability)}** risk of {task.outcome}: about {frequency} of 100 patients like this "
            f"one (90 % interval {percent(low)} to {percent(high)})."
        )
        if estimate.baseline:
            ratio = estimate.probability / estimate.baseline
            learned_from = LEARNED_FROM.get(estimate.model_id, "the cohort it was trained on")
            yield (
                f"Cohort average: {percent(estimate.baseline)} ({learned_from}). "
                f"This patient's risk is **{ratio:.1f} times** as high."
            )
        for caution in estimate.cautions:
            yield f"**Caution:** {gfm(caution, 300)}"
        yield ""
        yield from _drivers(estimate.drivers)
    elif estimate.abstention is not None:
        yield f"**No model estimate.** {gfm(estimate.abstention.reason, 400)}"
        yield ""
    yield from _scores(estimate.comparators, estimate.task)


def _drivers(drivers: Sequence[Driver]) -> Iterator[str]:
    for title, modifiable in (("Modifiable", True), ("Not modifiable", False)):
        chosen = [driver for driver in drivers if driver.modifiable is modifiable]
        if not chosen:
            continue
        yield f"**{title}**"
        yield ""
        for driver in chosen:
            arrow = "▲ raises" if driver.contribution > 0 else "▼ lowers"
            yield f"- {arrow} · {gfm(driver.label)}: {gfm(driver.value)}"
        yield ""


def _scores(scores: Sequence[ScoreResult], task: str) -> Iterator[str]:
    if task not in TASKS:
        yield "No established score is available for this outcome."
        return
    if not scores:
        yield "No established score applies: scores require an adult of known age."
        return
    usable = [score for score in scores if score.inputs]
    for score in scores:
        if not score.inputs:
            yield f"{score.name} not calculated: none of its inputs is known."
    if not usable:
        return
    yield ""
    yield "| Established score | Points | Published risk | Missing inputs |"
    yield "|---|---|---|---|"
    for score in usable:
        risk = percent(score.expected_risk) if score.expected_risk is not None else "–"
        band = f" ({score.band})" if score.band else ""
        missing = ", ".join(score.missing) or "none"
        yield f"| {score.name} | {score.in_words()}{band} | {risk} | {gfm(missing)} |"


def _notes(assessments: Sequence[Assessment]) -> Iterator[str]:
    findings = assessments[0].findings
    yield "### Findings in the notes"
    yield ""
    if findings.notes_read == 0:
        unread = f"; {findings.notes_unreadable} could not be read" if findings.notes_unreadable else ""
        yield f"No note was read{unread}."
        yield from (f"- {words}" for words in findings.unread_in_words())
        yield ""
        return
    present = [finding for finding in findings.findings if finding.counts]
    named = {finding.concept_ui: finding for finding in reversed(present)}
    denied = {f.concept_ui: f for f in findings.findings if f.polarity is Polarity.ABSENT and f.concept_ui not in named}
    stated = ", ".join(f"{gfm(f.name)} (“{gfm(f.quote, 60)}”)" for f in list(named.values())[:MAX_FINDINGS])
    negated = ", ".join(gfm(f.name) for f in list(denied.values())[:MAX_FINDINGS])
    yield f"{_counted(findings.notes_read, 'note')} read" + (
        f", {findings.notes_unreadable} could not be read." if findings.notes_unreadable else "."
    )
    yield ""
    if stated:
        yield f"- Present: {stated}"
    if negated:
        yield f"- Denied: {negated}"
    if not stated and not negated:
        yield "- No current and no denied findings."
    yield from (f"- {words}" for words in findings.unread_in_words())
    if findings.unanchored_dropped:
        claims = _counted(findings.unanchored_dropped, "language model finding")
        yield f"- Left out: {claims} not supported by the text of the notes."
    if findings.language_notes or findings.waiting or findings.language_failed:
        yield f"- {_readers(findings)}"
    for assessment in assessments:
        yield from _first_stage(assessment.estimate)
    yield f"- {_effect_of_notes([assessment.estimate for assessment in assessments])}"
    yield ""


def _first_stage(estimate: RiskEstimate) -> Iterator[str]:
    """The first stage's reasons. A language model's reasons are sentences of a note, and quoted as such."""
    title = estimate.asked.title
    if estimate.voice is None and estimate.reasons:
        yield f"- Strongest note findings for {title}: {'; '.join(gfm(reason, 80) for reason in estimate.reasons)}."
    if estimate.voice is not None:
        model = replace(estimate.voice, model=gfm(estimate.voice.model, 200))
        text = model.in_words([gfm(reason, 160) for reason in estimate.reasons])
        if text:
            yield f"- {title}: {text}"


def _readers(findings: NoteFindings) -> str:
    """Which reader read how many notes, and how many the language model has yet to read or could not."""
    by_rules = findings.notes_read - findings.language_notes
    model = findings.reader.rpartition("#")[2].rpartition("/")[2].removeprefix("language:")
    readers = [f"the language model {gfm(model, 60)} ({findings.language_notes})"] if findings.language_notes else []
    readers += [f"rules ({by_rules})"] if by_rules else []
    text = f"Read by {' and '.join(readers)}."
    if findings.waiting:
        text += f" {_counted(findings.waiting, 'note')} not read by the language model yet."
    if findings.language_failed:
        text += f" The language model gave no usable answer for {_counted(findings.language_failed, 'note')}."
    return text


def _effect_of_notes(estimates: Sequence[RiskEstimate]) -> str:
    if not any(estimate.reads_notes for estimate in estimates):
        return "Findings in the notes are shown for information; they do not change the estimate."
    if any(estimate.anchor is not None for estimate in estimates):
        return "Language model findings can change the estimate within a limit, but never the alert level of this card."
    return "Findings in the notes are part of the estimate."


def _literature(assessments: Sequence[Assessment]) -> Iterator[str]:
    yield "### Literature"
    yield ""
    seen: set[str] = set()
    for evidence in (item for assessment in assessments for item in assessment.evidence):
        if evidence.pmid in seen or len(seen) >= 6:
            continue
        seen.add(evidence.pmid)
        facts = ", ".join(filter(None, (evidence.study_type, str(evidence.year) if evidence.year else None)))
        yield f"- {gfm(evidence.passage, 400)} [PMID {int(evidence.pmid)}]({evidence.url})" + (
            f" ({facts})" if facts else ""
        )
        if evidence.path:
            yield f"  - found by: {gfm(evidence.path_in_words(), 200)}"
    if any("literature" in assessment.left_out for assessment in assessments):
        yield "The literature search ran out of time; open the chart again to repeat it."
    elif not seen:
        yield "No article in the evidence base is relevant enough to this patient's problems."
    yield ""


def _data(assessments: Sequence[Assessment], record: PatientRecord) -> Iterator[str]:
    yield "### Data used"
    yield ""
    yield f"Data as of {_day(record.prediction_time)}."
    yield ""
    vector = record.features()
    yield from _used(record, vector)
    gaps = {
        gap.name: gap.reason
        for assessment in assessments
        if _gaps_matter(assessment)
        for gap in assessment.estimate.gaps
    }
    if gaps:
        shown = ", ".join(f"{gfm(name)} ({_REASONS.get(reason, reason)})" for name, reason in list(gaps.items())[:20])
        more = f" and {len(gaps) - 20} more" if len(gaps) > 20 else ""
        yield f"- Missing: {shown}{more}"
    if record.not_fetched:
        yield f"- Not available to this service: {', '.join(sorted(record.not_fetched))}"
    refused = Counter(refusal.reason for refusal in record.refused if refusal.reason != "not-fetched")
    if refused:
        yield "- Not used: " + "; ".join(_not_used(reason, count) for reason, count in refused.most_common(6))


def _not_used(code: str, count: int) -> str:
    """
    >>> _not_used("more-notes-than-read", 20), _not_used("status-on-hold", 1)
    ('20 older notes not read', '1 item: on hold')
    """
    if code in _NOT_USED:
        noun, rest = _NOT_USED[code]
        return f"{_counted(count, noun)} {rest}".strip()
    reason = REASONS.get(code, code)
    return f"{_counted(count, 'item')}: {reason[:1].lower()}{reason[1:]}"


def _gaps_matter(assessment: Assessment) -> bool:
    """Whether missing inputs are listed: not for a patient outside the model's population."""
    abstention = assessment.estimate.abstention
    return abstention is None or abstention.code in {"too-little-data", "input-unknown"}


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _used(record: PatientRecord, vector: FeatureVector) -> Iterator[str]:
    start = None if record.current_stay is None else record.current_stay.start
    values = [m for m in record.measurements if start is None or m.time >= start]
    if values:
        times = [value.time for value in values]
        yield f"- {_counted(len(values), 'measurement')} in this stay, {_day(min(times))} to {_day(max(times))}"
    else:
        yield "- No measurements in this stay"
    active = {condition.text for condition in record.conditions if condition.active}
    drugs = {medication.text for medication in record.medications if medication.active}
    yield f"- {_counted(len(active), 'active problem')}, {_counted(len(drugs), 'medication')}"
    if start is not None:
        yield f"- Admitted {_day(start)}; length of stay so far {vector.number('length_of_stay.last') or 0:.1f} days"


def _day(moment: datetime) -> str:
    return f"{moment:%-d %B %Y, %H:%M} UTC"
