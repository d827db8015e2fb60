"""A language model's own estimate of a patient: which windows of the notes it is asked about, and what they come to.

listed = asked_windows(record.notes())          # the same in training, in service and in benchmarks
ImmediateOpinions(model, task).read(record.notes())        # -> Opinions
put_together([opinions, ...])                   # -> rationale.Reasons, a row for each patient
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import orjson

from artifact_store import MemoryCache
from fhir_mapping import Note
from knowledge_index import KnowledgeIndex
from risk_model.core.errors import AnswerError, LanguageModelError
from risk_model.core.tasks import READMISSION_30D, Task
from risk_model.first_stage.prompt_knowledge import with_knowledge
from risk_model.first_stage.rationale import Reasons, combined_reasons
from risk_model.llm.backend import AnswersMany, LanguageModel, Weighs
from risk_model.notes.rule_reader import KEY_SECTIONS
from risk_model.prompts.note_prompt import WINDOW_CHARACTERS, Window, packed, windows
from risk_model.prompts.opinion import Opinion, Opinions
from risk_model.prompts.risk_prompt import FORMAT, MOST_TOKENS, RiskPrompt, key_of

MOST_NOTES, MOST_OF_A_NOTE, MOST_WINDOWS = 6, 2, 4
"""A model is asked so often about a patient at most: neither a queue nor a card waits for a thick chart."""
REMEMBERED = 1024


class OpinionSource(Protocol):
    """A language model's opinions of one patient's notes: asked at once, or those that are there. Never raises."""

    def read(self, notes: Sequence[Note], index: KnowledgeIndex | None = None) -> Opinions:
        """`index` is where evidence for the prompt comes from, for a model that was trained with evidence."""
        ...


def asked_windows(notes: Sequence[Note]) -> tuple[Window, ...]:
    """The windows of a patient's notes (newest first) that a model is asked about, at most MOST_WINDOWS.

    The newest notes describe the patient's present state. Of each, the sections with clinical judgement come first
    (assessment, plan, course); a note without such sections gives the reason for admission at its beginning and the
    conclusions at its end. Each of the newest notes contributes one window before any contributes a second; text copied
    from note to note is included once, and short notes share a window (`packed`).
    """
    read = [note for note in notes if note.status == "read" and note.text.strip()][:MOST_NOTES]
    by_note = [_key_sections_first(list(windows(note)))[:MOST_OF_A_NOTE] for note in read]
    in_turn = (window for turn in zip_longest(*by_note) for window in turn if window is not None)
    once: dict[str, Window] = {}
    for window in in_turn:
        once.setdefault(" ".join(window.text.split()), window)
    return tuple(packed(once.values())[:MOST_WINDOWS])


def _key_sections_first(found: Sequence[Window]) -> list[Window]:
    def rank(window: Window) -> int:
        return min(KEY_SECTIONS.index(name) for name in window.sections if name in KEY_SECTIONS)

    key = sorted((window for window in found if not set(KEY_SECTIONS).isdisjoint(window.sections)), key=rank)
    ends = [*found[:1], *found[:0:-1]]  # the beginning, then from the end on
    return [*key, *(window for window in ends if window not in key)]


def put_together(patients: Sequence[Opinions]) -> Reasons:
    """The estimate of each patient and its reasons; unknown until the model has answered for all of his windows."""
    return combined_reasons([opinions.said if opinions.whole else () for opinions in patients])


def ask_model(
    model: LanguageModel, prompts: Sequence[RiskPrompt], seconds: float | None = None
) -> list[Opinion | LanguageModelError]:
    """What a model answers to each prompt, or why it does not; `seconds` are those for one answer.

    What a local model does not get done for many at once (for want of memory or time) it may for each alone.
    """
    if isinstance(model, AnswersMany) and len(prompts) > 1:
        found = _together(model, prompts, None if seconds is None else seconds * len(prompts))
        if not isinstance(found, LanguageModelError):
            return [*found]
    alone = (_together(model, [prompt], seconds) for prompt in prompts)
    return [found if isinstance(found, LanguageModelError) else found[0] for found in alone]


def _together(
    model: LanguageModel, prompts: Sequence[RiskPrompt], seconds: float | None
) -> list[Opinion] | LanguageModelError:
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        return list(opinions(model, prompts, deadline=deadline))
    except LanguageModelError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a backend is foreign code: whatever ails it is no answer
        return LanguageModelError("failed", error.__class__.__name__)


class ImmediateOpinions:
    """ImmediateOpinions(model, task).read(notes) -> Opinions, the model asked now: for commands, never for a hook (see
    `deferred_reader`)
    """

    def __init__(
        self, model: LanguageModel, task: str | Task, seconds: float | None = None, *, evidence: bool = False
    ) -> None:
        self.model = model
        self._task, self._seconds, self._evidence = task, seconds, evidence
        self._known: MemoryCache[Opinion] = MemoryCache(REMEMBERED)

    def read(self, notes: Sequence[Note], index: KnowledgeIndex | None = None) -> Opinions:
        listed = patient_prompts(notes, self._task, index if self._evidence else None)
        prompts = {key_of(self.model.fingerprint, prompt): prompt for prompt in listed}
        new = {key: prompt for key, prompt in prompts.items() if self._known.get(key) is None}
        found = zip(new, ask_model(self.model, list(new.values()), self._seconds), strict=True)
        fresh = {key: self._known.put(key, said) for key, said in found if isinstance(said, Opinion)}
        return opinions_of([fresh.get(key) or self._known.get(key) for key in prompts])


def ask_about_patients(
    model: LanguageModel,
    patients: Sequence[Sequence[Window]],
    task: str | Task,
    kept: Path,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Opinions]:
    """What a model says of the windows of many patients, side by side; `kept` as of `risk.asked_about`.

    Raises LanguageModelError where it cannot be asked to the end; what was answered before stays kept.
    """
    listed = [window for patient in patients for window in patient]
    answers = iter(asked_about(model, listed, task, kept, progress=progress))
    return [opinions_of([next(answers) for _ in patient]) for patient in patients]


def opinions_of(answers: Sequence[Opinion | None]) -> Opinions:
    """Of one patient; None is a window without a usable answer."""
    return Opinions(tuple(answer for answer in answers if answer is not None), failed=answers.count(None))


def asking(evidence: bool = False) -> dict[str, Any]:
    """How notes become questions and answers an estimate, for whoever has to know whether it is still the same way.

    `evidence` says whether the patient's problems and literature about them are shown.
    """
    sample = RiskPrompt(Window("Assessment: stable.", 0, ("assessment",), "progress_note", ""), READMISSION_30D)
    return {
        "notes": MOST_NOTES,
        "windows_of_a_note": MOST_OF_A_NOTE,
        "windows": MOST_WINDOWS,
        "characters": WINDOW_CHARACTERS,
        "short_notes": "share a window",
        "sections_first": list(KEY_SECTIONS),
        "estimate": "of the gravest window",
        "evidence": evidence,
        "prompt": key_of("", sample)[:16],
    }


def windows_to_ask(notes: Sequence[Note], task: str | Task, index: KnowledgeIndex | None) -> tuple[Window, ...]:
    """Returns the windows of `asked_windows`; with an index also the patient's problems and evidence beside each."""
    found = asked_windows(notes)
    return found if index is None else with_knowledge(found, index, task)


def patient_prompts(notes: Sequence[Note], task: str | Task, index: KnowledgeIndex | None) -> list[RiskPrompt]:
    """Returns what a model is asked about one patient; the same in training and in service."""
    return [RiskPrompt(window, task) for window in windows_to_ask(notes, task, index)]


def asked_about(
    model: LanguageModel,
    windows: Sequence[Window],
    task: str | Task,
    kept: Path,
    *,
    reasons: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Opinion | None]:
    """What the model thinks of each window, in order; None where what it answers is no opinion. `kept` is a file of
    lines that grows; patient data, so guard it.

    Raises LanguageModelError where it does not answer; what was answered before stays kept.
    """
    prompts = [RiskPrompt(window, task) for window in windows]
    keys = [key_of(model.fingerprint, prompt) for prompt in prompts]
    known = _known(kept, reasons)
    new = list({key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}.items())
    # Of like length together: little is padded.
    new.sort(key=lambda item: len(item[1].window.text))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch(mode=0o600)
    if new and kept.stat().st_size and not kept.read_bytes().endswith(b"\n"):
        with kept.open("ab") as stream:
            stream.write(b"\n")  # a line that was cut by a kill does not spoil the next
    said = _each(model, [prompt for _, prompt in new], reasons)
    with kept.open("ab", buffering=0) as stream:
        for done, ((key, _), opinion) in enumerate(zip(new, said, strict=True), start=1):
            if opinion is not None:
                known[key] = opinion
                stream.write(_line(key, opinion, reasons))
            progress(done, len(new))
    return [known.get(key) for key in keys]


def _each(model: LanguageModel, prompts: Sequence[RiskPrompt], reasons: bool) -> Iterator[Opinion | None]:
    """Side by side by a local model, which is held to the grammar; one by one by a server, which may say anything."""
    if isinstance(model, AnswersMany):
        yield from opinions(model, prompts, reasons=reasons)
        return
    for prompt in prompts:
        try:
            yield next(iter(opinions(model, [prompt], reasons=reasons)))
        except AnswerError:
            yield None


def opinions(
    model: LanguageModel, prompts: Sequence[RiskPrompt], *, reasons: bool = True, deadline: float | None = None
) -> Iterable[Opinion]:
    """In order; with log-odds where the model gives probabilities. Raises LanguageModelError."""
    if isinstance(model, Weighs):
        return model.opinions(prompts, reasons=reasons, deadline=deadline)
    return (prompt.read(model.answer(prompt, max_tokens=MOST_TOKENS, deadline=deadline)) for prompt in prompts)


def _line(key: str, opinion: Opinion, reasons: bool) -> bytes:
    return orjson.dumps({"format": FORMAT, "key": key, "reasons": reasons, **opinion.to_json()}) + b"\n"


def _known(kept: Path, reasons: bool) -> dict[str, Opinion]:
    """Lines of this format, where reasons are wanted those with reasons; what a kill cut is no answer."""
    lines = kept.read_bytes().splitlines() if kept.exists() else []
    found: dict[str, Opinion] = {}
    for line in lines:
        try:
            raw = orjson.loads(line)
            if raw.pop("format") == FORMAT and raw.pop("reasons") >= reasons:
                key = str(raw.pop("key"))
                found[key] = Opinion.from_json(raw)
        except (ValueError, TypeError, AttributeError, KeyError, AnswerError):
            continue
    return found
