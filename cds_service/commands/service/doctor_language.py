"""What `riskcards doctor` looks at of language models: the configured reader and those that are first stages, without
opening gigabytes."""

from __future__ import annotations

import os

_ADVICE = {
    "not-resolved": "nobody knows this host's name here; correct RISKCARDS_NOTE_READER",
    "address-not-allowed": "its address is a private one; allow its network with RISKCARDS_PRIVATE_NETWORKS",
    "refused": "see RISKCARDS_NOTE_READER_TOKEN_FILE",
    "no-token": "the file of RISKCARDS_NOTE_READER_TOKEN_FILE cannot be read",
    "too-slow": "raise RISKCARDS_NOTE_READER_SECONDS, or serve a smaller model",
    "not-an-answer": "it must hold its answers to a JSON schema (response_format or guided_json)",
}


def note_reader() -> str:
    """Raises where the configured reader could not read: no packages, no files, no answer from the model server."""
    from cds_service.background.language_models import ModelServers
    from cds_service.config.settings import Settings
    from risk_model.core import LanguageModelError
    from risk_model.llm import ReaderName, find_model, language_model
    from risk_model.prompts import Prompt, ReaderAnswer, Window, complete_json

    settings = Settings.from_environment(os.environ)
    name = ReaderName.of(settings.note_reader)
    if name.kind == "local":
        find_model(name)
        return f"{settings.note_reader}, read ahead of the hooks by `riskcards read-ahead`"
    if name.kind == "endpoint":
        model = language_model(name, ModelServers.of(settings))
        prompt = Prompt(Window("Assessment: pneumonia.", 0, (), "other", "doctor"))
        try:
            ReaderAnswer.from_text(complete_json(model.answer(prompt, max_tokens=200)))
        except LanguageModelError as error:
            advice = _ADVICE.get(error.reason, "see that the server is up and serves this model")
            raise LanguageModelError(f"{settings.note_reader} gives no answer ({error}): {advice}") from None
        return f"{settings.note_reader} answers in the schema"
    return "rules"


def first_stages() -> str:
    """Raises where a model's first stage could not speak: another model than it was trained with, no packages, no
    files, no answer from the model server."""
    from cds_service.background.language_models import ModelServers, asking_models, stage1_name
    from cds_service.config.settings import Settings
    from risk_model.core import LanguageModelError
    from risk_model.first_stage import ask_model
    from risk_model.llm import ReaderName, find_model, language_model
    from risk_model.prompts import RiskPrompt, Window

    settings = Settings.from_environment(os.environ)
    told = []
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
        told.append(f"{model.task}: {name}, the model it was trained with, asked by `riskcards read-ahead`")
    return "; ".join(told) or "no model of RISKCARDS_MODELS asks a language model for its own estimate"
