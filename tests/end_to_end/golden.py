"""Runs the cases of `examples/` through the real service and compares, or regenerates, their answers.

`python -m tests.end_to_end.golden` writes every `expected.json` again. Card and suggestion uuids are new in every
answer, so they are replaced by their order of appearance before comparing.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from flask import Flask

from cds_hooks import ServiceDefinition
from cds_service.application.factory import create_app
from cds_service.demo.ward.chart import Chart
from tests.patience import patient_settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def cases() -> list[Path]:
    return sorted(path.parent for path in EXAMPLES.glob("*/request.json"))


def make_app(folder: Path) -> Flask:
    """With time enough: what a busy machine leaves out must never become the expected answer."""
    settings = patient_settings(
        {
            "RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/golden.db",
            "RISKCARDS_PUBLIC_URL": "https://cds.example.org",
        }
    )
    return create_app(settings)


def answer(app: Flask, case: Path) -> dict[str, Any]:
    """Fire the case's hook as an EHR would: discovery, prefetch filled from the chart, POST."""
    request = json.loads((case / "request.json").read_text("utf-8"))
    bundle = json.loads((case / "bundle.json").read_text("utf-8"))
    resources = [entry["resource"] for entry in bundle["entry"]]
    client = app.test_client()
    services = map(ServiceDefinition.from_json, client.get("/cds-services").get_json()["services"])
    service = next(service for service in services if service.id == request["service"])
    prefetch = service.fill_prefetch(request["context"], Chart(resources).query)
    for key in request["prefetch_left_out"]:
        prefetch.pop(key, None)
    for key, reference in request.get("slipped_in", {}).items():
        stray = next(r for r in resources if f"{r['resourceType']}/{r['id']}" == reference)
        prefetch[key].setdefault("entry", []).append({"resource": stray, "search": {"mode": "match"}})
    assert service.hook == request["hook"]
    body = service.request_body(request["context"], prefetch, hook_instance=request["hookInstance"])
    response = client.post(f"/cds-services/{request['service']}", json=body)
    return {"status": response.status_code, "body": _stable(response.get_json())}


def _stable(body: Any) -> Any:
    """The same answer with each new uuid replaced by a number in order of appearance."""
    text = json.dumps(body, ensure_ascii=False)
    seen: dict[str, str] = {}
    return json.loads(UUID.sub(lambda match: seen.setdefault(match.group(), f"uuid-{len(seen) + 1}"), text))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = make_app(Path(folder))
        for case in cases():
            expected = json.dumps(answer(app, case), indent=1, ensure_ascii=False, sort_keys=True)
            (case / "expected.json").write_text(expected + "\n", "utf-8")
            print(f"{case.name}: written")


if __name__ == "__main__":
    main()
