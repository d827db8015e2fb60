"""Language model checks of `riskcards doctor`: the note reader and first stages, without loading local weights."""

from __future__ import annotations

from cds_service.config.settings import Settings

_ADVICE = {
    "not-resolved": "the host name cannot be resolved; correct RISKCARDS_NOTE_READER",
    "address-not-allowed": "its address is private; allow its network with RISKCARDS_PRIVATE_NETWORKS",
    "refused": "see RISKCARDS_NOTE_READER_TOKEN_FILE",
    "no-token": "the file of RISKCARDS_NOTE_READER_TOKEN_FILE cannot be read",
    "too-slow": "raise RISKCARDS_NOTE_READER_SECONDS, or serve a smaller model",
    "not-an-answer": "the server must support JSON schema output (response_format or guided_json)",
}


def note_reader(settings: Settings) -> str:
    """Checks the note reader. Raises if packages or files are missing or the model server does not answer."""
    from cds_service.background.language_models import ModelServers
    from risk_model.core import LanguageModelError
    from risk_model.llm import ReaderName, find_model, language_model
    from risk_model.prompts import Prompt, ReaderAnswer, Window, complete_json

    name = ReaderName.of(settings.note_reader)
    if name.kind == "local":
        find_model(name)
        return f"{settings.note_reader}, run by `riskcards read-ahead`{' with llama.cpp' if name.by_llama else ''}"
    if name.kind == "endpoint":
        model = language_model(name, ModelServers.of(settings))
        prompt = Prompt(Window("Assessment: pneumonia.", 0, (), "other", "doctor"))
        try:
            ReaderAnswer.from_text(complete_json(model.answer(prompt, max_tokens=200)))
        except LanguageModelError as error:
            advice = _ADVICE.get(error.reason, "check that the server is running and serves this model")
            raise LanguageModelError(f"{settings.note_reader} gives no answer ({error}): {advice}") from None
        return f"{settings.note_reader} answers with valid JSON"
    return "rules"


def first_stages(settings: Settings) -> str:
    """Checks the first stages. Raises for a model it was not trained with, missing packages or files, or no answer."""
    from cds_service.background.language_models import ModelServers, asking_models, stage1_name
    from risk_model.core import LanguageModelError
    from risk_model.first_stage import ask_model
    from risk_model.llm import ReaderName, find_model, language_model
    from risk_model.prompts import RiskPrompt, Window

    checked = []
    for model in asking_models(settings):
        name = stage1_name(settings, model)
        parsed = ReaderName.of(name)
        find_model(parsed)
        if parsed.kind == "endpoint":
            prompt = RiskPrompt(Window("Assessment: pneumonia.", 0, (), "other", "doctor"), model.question)
            (said,) = ask_model(
                language_model(parsed, ModelServers.of(settings)), [prompt], settings.note_reader_seconds
            )
            if isinstance(said, LanguageModelError):
                raise said
        checked.append(f"{model.task}: {name}, the model it was trained with, run by `riskcards read-ahead`")
    return "; ".join(checked) or "no model of RISKCARDS_MODELS has a language model as its first stage"
