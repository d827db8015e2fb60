"""A language model's readings of notes as a file of lines that grows: a run that was stopped goes on where it was.

    LanguageNoteReader(model, rules, known=ReadingsFile(path))

Named by what a reading depends on (`reader.reading_key`): another model, prompt or note is read anew.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import orjson

from risk_model.llm_reader.serialization import reading_from_json, reading_to_json
from risk_model.notes.reading import NoteReading

FORMAT = 1
"""Of a line; others are read again."""


class ReadingsFile:
    """ReadingsFile(path).get(key)   The file quotes notes: it is readable by its owner alone.

    It is made with its first reading. Raises OSError where it cannot be read or written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = Lock()
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        self._known = dict(filter(None, map(_read, lines)))
        self._whole = not lines or lines[-1].endswith(b"\n")

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str, /) -> NoteReading | None:
        return self._known.get(key)

    def put(self, key: str, value: NoteReading, /) -> NoteReading:
        """The reading itself, once it is written down."""
        line = orjson.dumps({"format": FORMAT, "key": key, "reading": reading_to_json(value)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch(mode=0o600)
        with self._writing, self.path.open("ab") as stream:
            # A last line that a kill has cut does not spoil the next.
            stream.write((b"" if self._whole else b"\n") + line + b"\n")
            self._whole = True
        self._known[key] = value
        return value


def _read(line: bytes) -> tuple[str, NoteReading] | None:
    """None for a line that a kill has cut, or of another version."""
    try:
        raw = orjson.loads(line)
        return (raw["key"], reading_from_json(raw["reading"])) if raw["format"] == FORMAT else None
    except (KeyError, TypeError, ValueError):
        return None
