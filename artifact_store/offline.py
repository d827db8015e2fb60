"""Switches off telemetry and model downloads of third-party libraries.

All outbound traffic goes through the service's gateway; these libraries would bypass it. Each reads its environment
variable once, at its first import: call `disable_telemetry` before importing one.
"""

from __future__ import annotations

import os

_OFFLINE = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's wheels collect a device id and events to upload
    "HF_HUB_OFFLINE": "1",  # transformers and peft look up a local model's base in the hub
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports each cluster to its vendor
}


def disable_telemetry() -> None:
    """Sets the variables for this process and its child processes; earlier values are overwritten."""
    os.environ.update(_OFFLINE)
