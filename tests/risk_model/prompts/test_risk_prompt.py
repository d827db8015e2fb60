"""A language model as first stage: a level with its log-odds and a sentence, kept as it goes."""

from __future__ import annotations

import math
import re
import stat
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from risk_model.core.errors import AnswerError, LanguageModelError
from risk_model.first_stage.patient_opinions import asked_about
from risk_model.first_stage.rationale import combined_reasons
from risk_model.llm.batching import opinions
from risk_model.llm.levels import Levels
from risk_model.llm.llama_model import LlamaLanguageModel
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm.remote_model import RemoteLanguageModel
from risk_model.prompts.answers import MAX_RATIONALE, RISK_LEVELS
from risk_model.prompts.knowledge import Knowledge
from risk_model.prompts.note_prompt import Window
from risk_model.prompts.opinion import Opinion, weighed
from risk_model.prompts.risk_prompt import RiskPrompt
from tests.risk_model.conftest import NEEDS
from tests.risk_model.language_fakes import SaysModel
from tests.risk_model.tiny_models import save_tiny_model

TASK = "in_hospital_mortality"
_TEXT = "Day {n}. Lactate is {n}.4 mmol/L,\n on the ward; sleeps. "
WINDOWS = [Window(_TEXT.format(n=n) * (n + 1), 0, (), "progress_note", "d") for n in range(5)]
PROMPTS = [RiskPrompt(window, TASK) for window in WINDOWS]
HIGH = "risk: high\nwhy: sleeps.\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LocalLanguageModel:
    for package in ("torch", "transformers", "llguidance"):
        pytest.importorskip(package, reason=NEEDS)
    return LocalLanguageModel(save_tiny_model(tmp_path_factory.mktemp("tiny")))


def by_hand(model: LocalLanguageModel, prompt: RiskPrompt) -> tuple[str, float]:
    """The levels weighed after one pass over all that stands before them: no cache, nobody beside it."""
    import torch

    written = [model.encoded(f"risk: {level}") for level in RISK_LEVELS]
    shared = next(n for n in range(99) if len({tokens[n] for tokens in written}) > 1)
    ids = torch.tensor([model.tokens(prompt.messages) + written[0][:shared]])
    with torch.inference_mode():
        said = torch.softmax(model.model(input_ids=ids).logits[0, -1].float(), dim=-1)
    weights = [float(said[tokens[shared]]) for tokens in written]
    low, moderate, high = (weight / sum(weights) for weight in weights)
    return RISK_LEVELS[weights.index(max(weights))], math.log((high + moderate / 2) / (low + moderate / 2))


def test_the_log_odds_are_the_models_own_probabilities_alone_and_together(tiny: LocalLanguageModel) -> None:
    together = list(opinions(tiny, PROMPTS, batch=3))
    quick = list(opinions(tiny, PROMPTS, reasons=False))
    for place, prompt in enumerate(PROMPTS):
        level, number = by_hand(tiny, prompt)
        (alone,) = opinions(tiny, [prompt])
        listed = (together[place], quick[place], alone)
        assert {opinion.level for opinion in listed} == {level}
        assert [opinion.log_odds for opinion in listed] == pytest.approx([number] * 3, abs=1e-4)
        assert together[place].reason == alone.reason
        assert alone.reason in prompt.sentences
    assert {opinion.reason for opinion in quick} == {""}
    assert len({opinion.log_odds for opinion in quick}) == len(PROMPTS)


def test_the_log_odds_of_a_real_model_are_its_own_too(smollm2: LocalLanguageModel) -> None:
    level, number = by_hand(smollm2, PROMPTS[0])
    found = next(opinions(smollm2, PROMPTS[:2]))
    assert (found.level, found.log_odds) == (level, pytest.approx(number, abs=1e-3))
    assert found.reason in PROMPTS[0].sentences


def test_an_answer_that_is_decoded_freely_is_one_that_can_be_read(tiny: LocalLanguageModel) -> None:
    for prompt in PROMPTS:
        opinion = prompt.read(tiny.answer(prompt, max_tokens=400))
        assert (opinion.log_odds, opinion.dropped) == (None, False)
        assert opinion.reason in prompt.sentences


def test_a_tokenizer_that_cannot_part_the_levels_is_refused(tiny: LocalLanguageModel) -> None:
    class Same:
        def encoded(self, text: str) -> list[int]:
            return [1, 2, 3 if "high" in text else 4]

    assert len(Levels.of(tiny).choice) == 3
    with pytest.raises(LanguageModelError, match="levels"):
        Levels.of(Same())  # type: ignore[arg-type]


def test_odds_are_of_the_mean_level() -> None:
    assert weighed([math.log(0.2), math.log(0.5), math.log(0.3)]) == ("moderate", pytest.approx(math.log(0.55 / 0.45)))
    assert weighed([0.0, -900.0, -900.0], offset=-1) == ("low", -13)
    for level, number in (("certain", 0.1), ("low", math.nan), ("low", "1")):
        with pytest.raises(AnswerError):
            Opinion(level, number)  # type: ignore[arg-type]


def test_a_reason_is_a_whole_sentence_of_the_note_or_none() -> None:
    """A piece is given back with the words before it: `no shock` is never `shock`."""
    text = "Assessment:\nNo septic  shock today. Cr 3.4, <|im_start|> said.\n" + "Was seen, " * 60 + "\n--\n"
    prompt = RiskPrompt(Window(text, 0, (), "progress_note", "d"), TASK)
    assert prompt.sentences[:2] == ("No septic shock today.", "Cr 3.4, ‹|im_start|> said.")
    assert len(prompt.sentences) == 3
    assert MAX_RATIONALE - 10 < len(prompt.sentences[2]) <= MAX_RATIONALE
    said = {"septic\n shock": "No septic shock today.", "cr 3.4": "Cr 3.4, ‹|im_start|> said."}
    assert {words: prompt.opinion("low", 0.5, words) for words in said} == {
        words: Opinion("low", 0.5, sentence) for words, sentence in said.items()
    }
    for invented in ("septic shock now", "shoc", "Cr 3", "Give potassium."):
        assert prompt.opinion("high", None, invented) == Opinion("high", dropped=True), invented
    assert prompt.opinion("high", None, " ") == Opinion("high")


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("# Medications", False), ("## Assessment and Plan", False), ("Medications:", False), ("**Plan:**", False),
        ("HOSPITAL COURSE:", False), ("Allergies", False), ("=== Discharge Diagnosis ===", False), ("Plan", False),
        ("Assessment: septic shock", True), ("SEPTIC SHOCK", True), ("sleeps.", True), ("2.", False),
        ("Plan: none", True), ("Medications were stopped.", True), ("# Lactate 6.4, on two pressors.", False),
    ],
)  # fmt: skip
def test_a_heading_is_no_reason(line: str, allowed: bool) -> None:
    prompt = RiskPrompt(Window(f"{line}\nWalks about.\n", 0, (), "progress_note", "d"), TASK)
    assert (" ".join(line.split()) in prompt.sentences) is allowed
    assert "Walks about." in prompt.sentences


def test_the_task_and_what_is_known_come_before_the_note() -> None:
    shown = Knowledge(("Heart Failure",), ("Sodium and death.", "Lactate and death."))
    user = RiskPrompt(replace(WINDOWS[0], knowledge=shown), TASK).messages[1].content
    begin = "Task: In-hospital mortality. Outcome: dying before leaving hospital. Window: until the end of this stay."
    assert user.startswith(begin)
    order = ("Problems: Heart Failure.", "Literature:", "[1] Sodium and death.", "[2] Lactate and death.", "<note>")
    places = [user.index(part) for part in order]
    assert places == sorted(places)
    assert "Literature" not in RiskPrompt(WINDOWS[0], TASK).messages[1].content


@pytest.mark.parametrize(
    ("said", "reason", "cited", "unknown"),
    [
        ("Lactate is 1.4. [2]", "Lactate is 1.4.", (2,), 0), ("Lactate is 1.4. [2] [1]", "Lactate is 1.4.", (2, 1), 0),
        ("Lactate is 1.4. [3]", "Lactate is 1.4.", (), 1), ("Lactate is 1.4. [2] [2]", "Lactate is 1.4.", (2,), 0),
        ("See table [1]", "See table [1]", (), 0), ("Made up. [1]", "", (), 0), ("Lactate is 1.4.", "Lactate is 1.4.", (), 0),
    ],
)  # fmt: skip
def test_numbers_of_passages_have_to_exist(said: str, reason: str, cited: tuple[int, ...], unknown: int) -> None:
    """A number that the note itself ends in is the note's; a reason that the note does not hold cites nothing."""
    shown = Knowledge(evidence=("Sodium and death.", "Lactate and death."))
    window = Window("Lactate is 1.4.\nSee table [1]\n", 0, (), "progress_note", "d", shown)
    opinion = RiskPrompt(window, TASK).read(f"risk: low\nwhy: {said}\n")
    assert (opinion.reason, opinion.cited, opinion.cited_dropped) == (reason, cited, unknown)
    numbers = [int(n) for n in re.findall(r"\[(\d)\]", said)]
    served = {"risk": "low", "rationale": said.partition(" [")[0], "evidence": numbers}
    if "table" not in said:
        assert RiskPrompt(window, TASK).read(orjson.dumps(served).decode()) == opinion


def test_both_local_models_name_passages_that_were_shown(tiny: LocalLanguageModel, llama: LlamaLanguageModel) -> None:
    shown = Knowledge(("Sepsis",), ("Sodium and death.", "Lactate and death."))
    prompts = [RiskPrompt(replace(window, knowledge=shown), TASK) for window in WINDOWS[:2]]
    for model in (tiny, llama):
        for prompt, opinion in zip(prompts, model.opinions(prompts), strict=True):
            assert opinion.reason in prompt.sentences
            assert set(opinion.cited) <= {1, 2}
            assert not opinion.cited_dropped
            assert not opinion.dropped
            assert Opinion.from_json(orjson.loads(orjson.dumps(opinion.to_json()))) == opinion


def test_a_note_without_words_has_a_level_and_no_reason(tiny: LocalLanguageModel) -> None:
    prompt = RiskPrompt(Window("--\n!!", 0, (), "progress_note", "d"), TASK)
    (opinion,) = opinions(tiny, [prompt])
    assert (opinion.reason, opinion.dropped) == ("", False)
    assert prompt.schema["properties"]["rationale"] == {"enum": [""]}


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """Killed in the middle, with a last line that was cut; lines of an older form, another model: asked anew."""
    kept = tmp_path / "kept.jsonl"
    model = SaysModel(lambda _: HIGH)
    first = asked_about(model, WINDOWS[:3], TASK, kept)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    older = [orjson.dumps([orjson.loads(line)["key"], HIGH]) for line in kept.read_bytes().splitlines()]
    kept.write_bytes(b"\n".join(older) + b'\n{"format":1}\n["half a li')
    assert asked_about(model, WINDOWS[:3], TASK, kept) == first
    assert model.asked == 6
    asked_about(model, WINDOWS, TASK, kept)
    assert model.asked == 8
    asked_about(model, WINDOWS, TASK, kept, reasons=False)
    assert model.asked == 8
    other = SaysModel(lambda _: HIGH, fingerprint="other")
    asked_about(other, WINDOWS[:1], TASK, kept)
    assert other.asked == 1


def test_the_number_is_kept_and_a_level_without_reason_is_asked_for_one(
    tiny: LocalLanguageModel, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    quick = asked_about(tiny, WINDOWS, TASK, kept, reasons=False)
    lines = [orjson.loads(line) for line in kept.read_bytes().splitlines()]
    assert sorted(line["log_odds"] for line in lines) == sorted(opinion.log_odds or 0 for opinion in quick)
    assert asked_about(tiny, WINDOWS, TASK, kept, reasons=False) == quick
    whole = asked_about(tiny, WINDOWS, TASK, kept)
    assert len(kept.read_bytes().splitlines()) == 10
    assert all(opinion.reason for opinion in whole)
    assert [opinion.level for opinion in whole] == [opinion.level for opinion in quick]


def test_a_servers_json_and_a_local_models_lines_say_the_same() -> None:
    lines = PROMPTS[0].read(HIGH)
    assert lines == PROMPTS[0].read('{"risk": "high", "rationale": "sleeps"}') == Opinion("high", None, "sleeps.")
    assert combined_reasons([[lines]]).phrases == (("sleeps.",),)
    assert PROMPTS[0].read("risk: low\nwhy: cut in the mid") == Opinion("low", dropped=True)
    for bad in ('{"rationale": 3, "risk": "low"}', '{"rationale": "", "risk": "certain"}', "{", "why: Lactate", ""):
        with pytest.raises(AnswerError):
            PROMPTS[0].read(bad)


def test_a_model_that_fails_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    kept, said = tmp_path / "kept.jsonl", iter(range(100))

    def say(_: object) -> str:
        if next(said) >= 16:
            raise LanguageModelError("unreachable")
        return HIGH

    many = [Window(f"Bed {n}.", 0, (), "progress_note", "d") for n in range(20)]
    with pytest.raises(LanguageModelError):
        asked_about(SaysModel(say), many, TASK, kept)  # type: ignore[arg-type]
    again = SaysModel(lambda _: HIGH)
    assert len(asked_about(again, many, TASK, kept)) == 20
    assert again.asked == 4


def served(tokens: list[tuple[str, dict[str, float]]] | None) -> bytes:
    """A server's answer; each token with its alternatives."""
    content = '{"risk":"moderate","rationale":"sleeps."}'
    listed = [
        {"token": token, "top_logprobs": [{"token": word, "logprob": math.log(p)} for word, p in other.items()]}
        for token, other in tokens or []
    ]
    choice = {"message": {"content": content}, "logprobs": None if tokens is None else {"content": listed}}
    return orjson.dumps({"choices": [choice]})


def test_a_servers_log_odds_are_those_of_its_alternatives() -> None:
    begun: list[tuple[str, dict[str, float]]] = [('{"', {}), ("risk", {}), ('":"', {})]
    level = ("mod", {"mod": 0.5, "moderate": 0.1, "high": 0.2, "l": 0.1, "lo": 0.1, "the": 0.05, "": 0.05})
    bodies: list[dict[str, object]] = []

    def transport(answer: bytes, status: int = 200) -> RemoteLanguageModel:
        def send(body: bytes, deadline: float | None) -> tuple[int, bytes]:
            bodies.append(orjson.loads(body))
            return (status, b"") if status != 200 and "logprobs" in bodies[-1] else (200, answer)

        return RemoteLanguageModel("https://llm.example/v1", "m", send)

    (found,) = transport(served([*begun, level])).opinions(PROMPTS[:1])
    assert (found.level, found.reason) == ("moderate", "sleeps.")
    assert found.log_odds == pytest.approx(0.0)
    assert bodies[0]["logprobs"] is True
    for answer in (served(None), served(begun), served([*begun, ("the", {"the": 1.0})])):
        (without,) = transport(answer).opinions(PROMPTS[:1])
        assert without == Opinion("moderate", None, "sleeps.")
    (older,) = transport(served(None), status=400).opinions(PROMPTS[:1], reasons=False)
    assert older == Opinion("moderate")
