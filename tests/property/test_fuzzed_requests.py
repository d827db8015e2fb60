"""A short run of `benchmarks/fuzz.py`: mutated requests never give a 5xx status."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fuzz import EXAMPLES, post, requests_of
from tests.end_to_end.golden import make_app


def test_no_fuzzed_request_is_a_server_error(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    client, bodies, cards = app.test_client(), requests_of(EXAMPLES), list[str]()
    found = {seed: post(client, seed, bodies, cards) for seed in range(400)}
    assert {seed for seed, status in found.items() if status >= 500} == set()
    assert set(found.values()) <= {200, 400, 403, 404, 412, 413}
    assert list(found.values()).count(200) > 100
    app.extensions["riskcards"].store.close()
