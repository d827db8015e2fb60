"""The child side: sets its resource limits, then converts notes from standard input until it closes.

A frame is a length (4 bytes, big endian) and that many bytes. A job is two frames, a JSON header and the note's bytes;
an answer is one frame of JSON. Nothing is unpickled on either side. Standard error is discarded: no note is logged.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from collections.abc import Callable
from typing import Any

import orjson

from fhir_mapping.notes.formats import plain
from fhir_mapping.notes.formats.converted import Converted, UnreadableError, cut
from fhir_mapping.notes.formats.detection import Format, format_of

MEMORY_BYTES = 640 * 2**20
CPU_SECONDS = 1.5
_LIFETIME_CPU_SECONDS = 600
_OPEN_FILES = 32


def main() -> None:
    """Processes jobs until the parent closes the pipe. Started by `sandbox` as `python -I -c ...`."""
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # what native libraries print must not get into the answers
    _limit()
    _write(answers, b"{}")  # ready
    while (head := _read_frame()) is not None:
        body = _read_frame()
        if body is None:
            return
        _write(answers, orjson.dumps(_timed(orjson.loads(head), body)))


def _limit() -> None:
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: _LIFETIME_CPU_SECONDS,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
    }
    for name, value in limits.items():
        _, hard = resource.getrlimit(name)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (allowed, allowed))


def _timed(head: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Returns the answer to one job; at its CPU limit the kernel ends the process, even in native code."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        return _answer(convert(Format(head["format"]), body, head.get("charset")))
    except UnreadableError as error:
        return {"reason": error.reason}
    except (MemoryError, RecursionError):
        return {"reason": "memory-limit"}
    except Exception:  # noqa: BLE001 - any other exception of a parser is reported as a crash
        return {"reason": "converter-crashed"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(found: Converted) -> dict[str, Any]:
    headings = [[heading.title, heading.start, heading.level, heading.code] for heading in found.headings]
    # JSON has no lone surrogates; a parser may leave some.
    text = found.text.encode("utf-8", "replace").decode()
    return {"text": text, "headings": headings, "warning": found.warning}


def convert(form: Format, raw: bytes, charset: str | None = None) -> Converted:
    """Returns `raw` converted from `form`. Imports only the parser it needs."""
    if form is Format.PLAIN:
        return cut(Converted(plain.decode(raw, charset)))
    return _READERS[form](raw, charset)


def _html(raw: bytes, charset: str | None) -> Converted:
    from fhir_mapping.notes.formats.html import html_to_text

    return html_to_text(plain.decode(raw, charset or _declared_charset(raw)))


def _declared_charset(raw: bytes) -> str | None:
    """Returns the charset in `<meta charset=...>` or an XML declaration, or None."""
    head = raw[:1024].lower()
    for attribute in (b"charset=", b"encoding="):
        _, found, after = head.partition(attribute)
        if found:
            name = after.lstrip(b"\"' ")[:40]
            end = next((i for i, c in enumerate(name) if c in b"\"' />;"), len(name))
            return name[:end].decode("ascii", "ignore")
    return None


def _rtf(raw: bytes, _charset: str | None) -> Converted:
    from fhir_mapping.notes.formats.rtf import rtf_to_text

    return rtf_to_text(raw)


def _pdf(raw: bytes, _charset: str | None) -> Converted:
    from fhir_mapping.notes.formats.pdf import pdf_to_text

    return pdf_to_text(raw)


def _xml(raw: bytes, _charset: str | None) -> Converted:
    from fhir_mapping.notes.formats.cda import cda_to_text

    return cda_to_text(raw, _embedded)


def _embedded(media_type: str, raw: bytes) -> Converted:
    """Returns the converted body of an unstructured CDA document; it must not be another CDA document."""
    form = format_of(media_type, raw)
    if form is Format.XML:
        raise UnreadableError("xml-not-cda")
    return convert(form, raw)


_READERS: dict[Format, Callable[[bytes, str | None], Converted]] = {
    Format.HTML: _html,
    Format.RTF: _rtf,
    Format.PDF: _pdf,
    Format.XML: _xml,
}


def _read_frame() -> bytes | None:
    head = _read(4)
    return None if head is None else _read(struct.unpack(">I", head)[0])


def _read(length: int) -> bytes | None:
    found = bytearray()
    while len(found) < length:
        piece = os.read(0, min(length - len(found), 2**20))
        if not piece:
            return None
        found += piece
    return bytes(found)


def _write(descriptor: int, answer: bytes) -> None:
    view = memoryview(struct.pack(">I", len(answer)) + answer)
    while view:
        view = view[os.write(descriptor, view) :]
