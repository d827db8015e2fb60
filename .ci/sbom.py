"""The software bill of materials from a lock file: CycloneDX 1.5 as JSON, the same bytes for the same lock.

python .ci/sbom.py requirements/runtime.txt > sbom.json
"""

# a script: its answer is what it prints
# ruff: noqa: T201
from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill(lock: str) -> dict[str, Any]:
    """Raises ValueError when a package of the lock has no hash: what cannot be checked is not vouched for."""
    components: list[dict[str, Any]] = []
    for line in lock.splitlines():
        if pinned := _PIN.match(line):
            components.append(_component(pinned[1], pinned[2]))
        if found := _HASH.findall(line):
            components[-1]["hashes"] += [{"alg": "SHA-256", "content": digest} for digest in found]
    bare = [component["name"] for component in components if not component["hashes"]]
    if bare or not components:
        raise ValueError(f"no hash for {', '.join(bare) or 'anything'} in the lock")
    serial = uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(lock.encode()).hexdigest())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "riskcards", "bom-ref": "riskcards"}},
        "components": components,
        "dependencies": [{"ref": "riskcards", "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _component(name: str, version: str) -> dict[str, Any]:
    plain = re.sub(r"[-_.]+", "-", name).lower()
    reference = f"pkg:pypi/{plain}@{version}"
    return {"type": "library", "name": plain, "version": version, "bom-ref": reference, "purl": reference, "hashes": []}


if __name__ == "__main__":
    print(json.dumps(bill(Path(sys.argv[1]).read_text("utf-8")), indent=1))
