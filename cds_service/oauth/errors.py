"""Errors of SMART App Launch and OAuth.

SmartError
├── SmartSetupError     the clients file, a key or a secret cannot be used: raised when the service starts
└── LaunchRefusedError  this launch cannot continue: shown to the user, with a status
"""

from __future__ import annotations


class SmartError(Exception):
    """Base class; the message contains no token, no code and no patient data."""


class SmartSetupError(SmartError, ValueError):
    """The configuration cannot be used; the message names the field and what is expected."""


class LaunchRefusedError(SmartError):
    """`reason` is a stable code for the log, `advice` a sentence for the user, `status` the HTTP status of the page."""

    def __init__(self, reason: str, advice: str, *, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.status = status
