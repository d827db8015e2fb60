"""A prefetch with unread resources is refused exactly when the fully parsed one would be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_hooks import HookError, parse_json
from cds_service.hooks.prefetch_parsing import parse_prefetch
from fhir_mapping.parsing.resource_reader import Bundle

NAMES = ["id", "i", "i1", "code", "resource", "entry", "search", "resourceType", "a{", '{"x": 1}', "é", "a\\b", "\\"]
WORDS = ["", ":", '"', "\\", "0", "c0de", "{", "]", '{"x": 1}', '"resource": {', "\n", "1e400", "a:b"]
SCALARS = st.sampled_from(["null", "0", "-1.5", "12345678901234567890", "true"]) | st.sampled_from(WORDS).map(
    json.dumps
)


def written(pairs: list[tuple[str, str]]) -> str:
    """An object as text, for what a dictionary cannot express: duplicate names, and names with escapes."""
    return "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}"


def spelled(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from(
        [json.dumps(name), json.dumps(name, ensure_ascii=False), f'"\\u{ord(name[0]):04x}{name[1:]}"']
    )


def objects(names: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(names, values), max_size=4).map(written)


ANY_NAME = st.sampled_from(NAMES).map(json.dumps) | st.sampled_from(NAMES[:8]).flatmap(spelled)
ANY = st.recursive(
    SCALARS, lambda inner: objects(ANY_NAME, inner) | st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]")
)
RESOURCES = objects(ANY_NAME, ANY).map(
    lambda text: '{"resourceType": "Observation"' + (", " + text[1:] if text != "{}" else "}")
)
ENTRIES = objects(st.sampled_from(['"resource"', '"search"', '"fullUrl"', '"x"']), RESOURCES | ANY)
SIMPLE = st.tuples(RESOURCES).map(lambda one: '{"resource": ' + one[0] + "}")
LISTS = st.lists(SIMPLE | ENTRIES, max_size=6).map(lambda found: f"[{', '.join(found)}]")
BUNDLES = objects(st.sampled_from(['"entry"', '"link"', '"total"', '"x"']), LISTS | ANY).map(
    lambda text: '{"resourceType": "Bundle"' + (", " + text[1:] if text != "{}" else "}")
)
MEMBERS = st.sampled_from(['"patient"', '"labs"', '"vitals"', '"x"'])
PREFETCHES = objects(MEMBERS, BUNDLES | RESOURCES | st.just("null")) | objects(MEMBERS, BUNDLES | ANY)


def whole(value: Any) -> Any:
    return value.parsed() if isinstance(value, Bundle) else value


def known(bundle: dict[str, Any]) -> dict[str, Any]:
    """The members of a parsed Bundle that an unread one keeps."""
    kept = {name: bundle.get(name) for name in ("resourceType", "type", "total", "link")}
    members = ("resource", "fullUrl", "search", "response", "modifierExtension")
    kept["entry"] = [{name: item.get(name) for name in members} for item in bundle.get("entry") or ()]
    return kept


def said(read: Any, text: bytes) -> Any:
    try:
        return {name: whole(value) for name, value in read(text).items()}
    except HookError as error:
        return error.status


@given(PREFETCHES)
def test_unread_bundles_are_refused_like_parsed_ones(text: str) -> None:
    expected, found = said(parse_json, text.encode()), said(parse_prefetch, text.encode())
    if isinstance(expected, int) or isinstance(found, int):
        assert found == expected
        return
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        one = isinstance(parse_prefetch(text.encode())[name], Bundle)
        assert known(value) == known(found[name]) if one else value == found[name]


ENTRY = '{"resource": {"resourceType": "Observation", "id": "%s", "code": {"text": "x"}}}'


@pytest.mark.parametrize(
    "entries",
    [
        [ENTRY % "1", ENTRY % "2", ENTRY % "3", ENTRY.replace('"code"', '"id"') % "4"],
        [ENTRY % "1", ENTRY % "2", ENTRY % "3", ENTRY.replace('"text"', '"text": "y", "text"') % "4"],
        [ENTRY % "1", ENTRY % "2", ENTRY % "3", ENTRY.replace('{"resource"', '{"resource": {}, "resource"') % "4"],
        [f'{{"a": {n}, {(ENTRY % n)[1:-1]}, "a": 2}}' for n in range(4)],
        [f'{{"b": {n}, {(ENTRY % n)[1:-1]}, "{"c" if n < 3 else "b"}": 2}}' for n in range(4)],
        [ENTRY % "1", ENTRY.replace('"id"', '"i\\u0064": 1, "id"') % "2"],
        [ENTRY % "1", ENTRY.replace('"id"', '"id2": 1, "id1": 2, "id1"') % "2"],
        [
            ENTRY.replace('"id"', '"id2": 1, "id1": 2, "id"') % "1",
            ENTRY.replace('"id"', '"id1": 1, "id1": 2, "id"') % "2",
        ],
    ],
)
def test_duplicate_names_are_found_anywhere(entries: list[str]) -> None:
    """Also after resources of the same form, which are not examined again, and beside the resource."""
    text = f'{{"labs": {{"resourceType": "Bundle", "entry": [{", ".join(entries)}]}}}}'.encode()
    for _ in range(2):
        with pytest.raises(HookError, match="twice"):
            parse_prefetch(text)


def test_a_number_beyond_any_float_is_left_to_the_reader() -> None:
    text = '{"labs": {"resourceType": "Bundle", "entry": [%s]}, "patient": {"x": %s}}'
    resource = ENTRY.replace('"text": "x"', '"x": 1e400') % "1"
    assert isinstance(parse_prefetch((text % (resource, 1)).encode())["labs"], Bundle)
    with pytest.raises(HookError):
        parse_prefetch((text % (resource, "1e400")).encode())
