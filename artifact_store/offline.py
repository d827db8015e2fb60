"""Libraries that would speak to their makers, or look for models in the network, are told before they are imported.

What leaves this software goes through the service's gateway; these go past it. Each of them reads its variable once, at
its first import, so whoever imports one calls `disable_telemetry` before.
"""

from __future__ import annotations

import os

SILENT = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's wheels keep a device id and events, to be sent
    "HF_HUB_OFFLINE": "1",  # transformers and peft look a local model's base up in the hub
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray tells its maker of each cluster
}


def disable_telemetry() -> None:
    """Set for this process and those it starts, whatever was set before."""
    os.environ.update(SILENT)
