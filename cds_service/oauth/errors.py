"""What can go wrong with SMART.

SmartError
├── SmartSetupError     the clients file, a key or a secret cannot be used: said when the service starts
└── LaunchRefusedError  this launch cannot go on: said to the person in front of it, with a status
"""

from __future__ import annotations


class SmartError(Exception):
    """Base of all; the message holds no token, no code and nothing of a patient."""


class SmartSetupError(SmartError, ValueError):
    """The configuration cannot be used; the message names the place and says what would be right."""


class LaunchRefusedError(SmartError):
    """`reason` is a stable code for the log, `advice` a sentence for the person who launched."""

    def __init__(self, reason: str, advice: str, *, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.status = status
