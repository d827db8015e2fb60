"""What `riskcards doctor` looks at of language models: the configured reader, without opening gigabytes."""

from __future__ import annotations

import os


def note_reader() -> str:
    """Raises where the configured reader could not read: no packages, no files, no answer from the model server."""
    from cds_service.language import ModelServers
    from cds_service.settings import Settings
    from risk_model.language.answer import Answer, completed
    from risk_model.language.named import ReaderName, language_model, look
    from risk_model.language.prompt import Prompt, Window

    settings = Settings.from_environment(os.environ)
    name = ReaderName.of(settings.note_reader)
    if name.kind == "local":
        look(name)
        return f"{settings.note_reader}, read ahead of the hooks by `riskcards read-ahead`"
    if name.kind == "endpoint":
        model = language_model(name, ModelServers.of(settings))
        prompt = Prompt(Window("Assessment: pneumonia.", 0, (), "other", "doctor"))
        Answer.from_text(completed(model.answer(prompt, max_tokens=200)))
        return f"{settings.note_reader} answers in the schema"
    return "rules"
