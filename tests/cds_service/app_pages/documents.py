"""Reading the app's pages as a careful client would: strict nesting, one h1, names for controls, nothing inline."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "hr", "img"}
# Empty SVG elements may close themselves; the parser then reports them as start and end at once.
LABELLED = {"input", "select", "textarea"}


class Document(HTMLParser):
    """Document(html): `faults` names what is wrong, `tags` what stands in it as (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.marked: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]
        self._check()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if "mark" in self._open:
            self.marked.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def _check(self) -> None:
        ids = [a["id"] for _, a in self.tags if "id" in a]
        self.faults += [f"id {i} occurs twice" for i in sorted({i for i in ids if ids.count(i) > 1})]
        self.faults += [
            f"<{tag}> has {name}" for tag, a in self.tags for name in a if name == "style" or name.startswith("on")
        ]
        self.faults += ["inline script" for a in self.all("script") if "src" not in a]
        self.faults += ["inline style" for _ in self.all("style")]
        labelled = {a.get("for") for a in self.all("label")}
        for tag, a in self.tags:
            free = a.get("type") in {"hidden", "radio"} or a.get("id") in labelled or "aria-label" in a
            if tag in LABELLED and not free:
                self.faults.append(f"<{tag} name={a.get('name')}> has no label")
            if tag == "svg" and a.get("aria-hidden") != "true" and "aria-label" not in a:
                self.faults.append("an svg without a text alternative")
        inside = {a["href"][1:] for a in self.all("a") if a.get("href", "").startswith("#")}
        self.faults += [f"#{missing} leads nowhere" for missing in sorted(inside - set(ids))]
