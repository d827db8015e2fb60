"""The demo's settings: nothing outlives its folder, and its own EHR is registered for SMART launches."""

from __future__ import annotations

import json
from pathlib import Path

from cds_service.config.settings import Settings
from cds_service.demo.ehr import CLIENT_ID
from cds_service.oauth.clients import is_loopback


def demo_settings(address: str, folder: Path) -> Settings:
    """Database, session key and SMART clients in `folder`; `address` is where the browser will find the demo.

    A launch needs https, or this very machine: served to others over plain http, the app opens without one.
    """
    env = {
        "RISKCARDS_PUBLIC_URL": address,
        "RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/demo.db",
        "RISKCARDS_SESSION_KEY_FILE": str(folder / "session.key"),
        # Every request is computed in full, so that its trace is complete.
        "RISKCARDS_REMEMBER_SECONDS": "0",
        # Its pages and charts are for its own address; no other website may read them.
        "RISKCARDS_ALLOWED_ORIGINS": "",
    }
    if is_loopback(address):
        client = {"name": "demo-ehr", "iss": f"{address}/demo/fhir", "client_id": CLIENT_ID, "type": "public"}
        clients = folder / "smart.json"
        clients.write_text(json.dumps({"clients": [{**client, "frame_ancestors": [address]}]}))
        env["RISKCARDS_SMART_CLIENTS"] = str(clients)
    return Settings.from_environment(env)
