"""Builds small note files in the formats hospitals use, for single test cases."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence

_PAD = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


def pdf(pages: Sequence[Sequence[str]], *, password: str | None = None, streams: Sequence[bytes] = ()) -> bytes:
    """A PDF with one line of Helvetica per string; a page without lines is like a scanned one.

    `password` encrypts it (RC4, 40 bit: standard security handler, revision 2); `streams` are further pages, already
    deflated.
    """
    contents = [(_page(lines), b"") for lines in pages] + [(stream, b"/Filter /FlateDecode ") for stream in streams]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(contents)))
    objects = [
        b"<</Type /Catalog /Pages 2 0 R>>",
        f"<</Type /Pages /Count {len(contents)} /Kids [{kids}]>>".encode(),
        b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    ]
    identity = b"0123456789abcdef"
    owner, key = _encryption(password, identity) if password is not None else (b"", b"")
    for number, (stream, extra) in enumerate(contents):
        own = 5 + 2 * number
        objects.append(
            f"<</Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources <</Font <</F 3 0 R>>>> "
            f"/Contents {own} 0 R>>".encode()
        )
        data = _rc4(_object_key(key, own), stream) if key else stream
        objects.append(b"<<%s/Length %d>>stream\n%s\nendstream" % (extra, len(data), data))
    trailer = b""
    if key:
        user = _rc4(key, _PAD)
        objects.append(
            b"<</Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s>>>" % (owner.hex().encode(), user.hex().encode())
        )
        trailer = b"/Encrypt %d 0 R /ID [<%s> <%s>] " % (len(objects), identity.hex().encode(), identity.hex().encode())
    return _assembled(objects, trailer)


def _page(lines: Sequence[str]) -> bytes:
    escaped = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").encode("cp1252") for line in lines]
    return (
        b"BT /F 11 Tf 50 750 Td 14 TL " + b" ".join(b"(%s) Tj T*" % line for line in escaped) + b" ET" if lines else b""
    )


def _assembled(objects: Iterable[bytes], trailer: bytes) -> bytes:
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(offsets) + 1
    return (
        body
        + b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
        + b"trailer <</Size %d /Root 1 0 R %s>>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, len(body))
    )


def _encryption(password: str, identity: bytes) -> tuple[bytes, bytes]:
    padded = (password.encode() + _PAD)[:32]
    owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
    permissions = (-4).to_bytes(4, "little", signed=True)
    return owner, hashlib.md5(padded + owner + permissions + identity).digest()[:5]


def _object_key(key: bytes, number: int) -> bytes:
    return hashlib.md5(key + number.to_bytes(3, "little") + b"\x00\x00").digest()[:10]


def _rc4(key: bytes, data: bytes) -> bytes:
    box, j = list(range(256)), 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) % 256
        box[i], box[j] = box[j], box[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + box[i]) % 256
        box[i], box[j] = box[j], box[i]
        out.append(byte ^ box[(box[i] + box[j]) % 256])
    return bytes(out)


def deflated(piece: bytes, times: int) -> bytes:
    """A long repetition, compressed piece by piece to save memory."""
    packer = zlib.compressobj(9)
    block = piece * 1000
    return b"".join([*(packer.compress(block) for _ in range(times // 1000)), packer.flush()])


def rtf(*paragraphs: str, head: str = r"\ansi\ansicpg1252") -> bytes:
    """An RTF document; the paragraphs are RTF too."""
    return ("{\\rtf1" + head + " " + "\\par\n".join(paragraphs) + "}").encode("latin-1")


def cda(*sections: str, head: str = "", body: str | None = None) -> bytes:
    """A ClinicalDocument; sections are the inside of <section>, `body` replaces the structuredBody."""
    inside = "".join(f"<component><section>{section}</section></component>" for section in sections)
    structured = body if body is not None else f"<structuredBody>{inside}</structuredBody>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}<ClinicalDocument xmlns="urn:hl7-org:v3">'
        f"<title>Summary</title><component>{structured}</component></ClinicalDocument>"
    ).encode()


def loinc(code: str) -> str:
    return f'<code code="{code}" codeSystem="2.16.840.1.113883.6.1"/>'
