"""Downloads PubMed records of a query through NCBI's E-utilities: one search, then pages stored on disk.

This package has no network client: the caller passes a `Fetch`. Source: NCBI, "Entrez Programming Utilities Help" (the
history server, three requests a second without a key and ten with one, 10,000 records of a PubMed search at most).

    folder/search.json             the query, its number of results, its entry on the history server
    folder/page-00000.xml.gz       records 0 .. 199 as they came, in the format of the baseline files

Existing pages are not fetched again: a stopped download resumes, and a complete one makes no request.
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from knowledge_index.core.errors import SourceError

Fetch = Callable[[str, Mapping[str, str]], bytes]
"""Requests a utility (`esearch` or `efetch`) with parameters and returns the body. Raises `SourceError`."""

PAGE = 200
MOST = 9_999
"""Maximum records per search; for more, use a narrower query or the baseline files."""
_ATTEMPTS = 4
_RECORD = re.compile(rb"<(?:PubmedArticle|PubmedBookArticle)[\s>]")
_HISTORY_GONE = re.compile(rb"WebEnv|query_key|history", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Search:
    """A search on the history server."""

    query: str
    count: int
    web_env: str
    query_key: str


class Pace:
    """Limits the number of requests per second."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap, self._clock, self._sleep = 1.0 / per_second, clock, sleep
        self._next = clock()

    def wait(self) -> None:
        now = self._clock()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + self._gap

    def rest(self, seconds: float) -> None:
        """Wait after a failure, on top of the pace."""
        self._sleep(seconds)


class Eutils:
    """Eutils(fetch, key).download("heart failure readmission", folder) -> paths of the pages, ready for `collect`.

    Three requests a second without an API key, ten with one. A request with a transient failure is tried four
    times, with waits of 1, 2 and 4 seconds.
    """

    def __init__(self, fetch: Fetch, api_key: str | None = None, pace: Pace | None = None) -> None:
        self._fetch = fetch
        self._own = {"db": "pubmed", "tool": "riskcards"} | ({"api_key": api_key} if api_key else {})
        self._pace = pace or Pace(10 if api_key else 3)

    def download(
        self, query: str, folder: Path, *, limit: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> list[Path]:
        """Fetches at most `limit` records of a query, newest first; returns their files.

        Raises `SourceError` where nothing or too much is found, or a request fails; fetched pages are kept for the
        next attempt.
        """
        folder.mkdir(parents=True, exist_ok=True)
        search = _stored_search(folder, query) or self._search(query, folder)
        wanted = min(search.count, limit or search.count)
        if wanted > MOST:
            raise SourceError(
                f"{search.count:,} records match and PubMed hands out {MOST:,} of a search: narrow the query, give "
                f"--limit, or build from the baseline files with --source pubmed-xml"
            )
        paths = []
        for start in range(0, wanted, PAGE):
            many = min(PAGE, wanted - start)
            path = folder / f"page-{start:05}-{many}.xml.gz"
            if not path.exists():
                search = self._page(search, start, many, path, folder)
            paths.append(path)
            if progress is not None:
                progress(start + many, wanted)
        return paths

    def _search(self, query: str, folder: Path) -> Search:
        body = self._ask("esearch", {"term": query, "usehistory": "y", "retmax": "0", "retmode": "json"})
        search = _parsed(query, body)
        if not search.count:
            raise SourceError(f"PubMed finds nothing for {query!r}")
        (folder / "search.json").write_bytes(orjson.dumps(asdict(search)))
        return search

    def _page(self, search: Search, start: int, many: int, path: Path, folder: Path) -> Search:
        """Fetches one page; returns the search, repeated where its history has expired."""
        body = self._records(search, start, many)
        if _RECORD.search(body) is None and _HISTORY_GONE.search(body):
            found = search.count
            search = self._search(search.query, folder)
            if search.count != found:
                raise SourceError(
                    f"the search found {found:,} records when it began and {search.count:,} now: remove {folder} and "
                    f"start again, or its pages would not fit together"
                )
            body = self._records(search, start, many)
        came = len(_RECORD.findall(body))
        if b"PubmedArticleSet" not in body or not came:
            raise SourceError(f"PubMed answered without records from {start}: {_words(body)}")
        coming = path.with_suffix(".part")
        coming.write_bytes(gzip.compress(body, mtime=0))
        coming.rename(path)
        return search

    def _records(self, search: Search, start: int, many: int) -> bytes:
        history = {"WebEnv": search.web_env, "query_key": search.query_key}
        return self._ask("efetch", history | {"retstart": str(start), "retmax": str(many), "retmode": "xml"})

    def _ask(self, utility: str, parameters: Mapping[str, str]) -> bytes:
        for attempt in range(_ATTEMPTS):
            self._pace.wait()
            try:
                return self._fetch(utility, {**self._own, **parameters})
            except SourceError as error:
                if not error.passing or attempt == _ATTEMPTS - 1:
                    raise
                self._pace.rest(2.0**attempt)
        raise AssertionError("unreachable")


def _stored_search(folder: Path, query: str) -> Search | None:
    try:
        search = Search(**orjson.loads((folder / "search.json").read_bytes()))
    except (OSError, TypeError, orjson.JSONDecodeError):
        return None
    return search if search.query == query else None


def _parsed(query: str, body: bytes) -> Search:
    try:
        result: dict[str, Any] = orjson.loads(body)["esearchresult"]
        if "ERROR" in result:
            raise SourceError(f"PubMed refused the query: {_words(str(result['ERROR']).encode())}")
        return Search(query, int(result["count"]), str(result["webenv"]), str(result["querykey"]))
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"PubMed's answer to the search is not what it documents: {_words(body)}") from error


def _words(body: bytes) -> str:
    text = re.sub(r"<[^>]*>", " ", body[:2000].decode("utf-8", "replace"))
    return " ".join(text.split())[:200] or "an empty answer"
