"""Who may see estimates in the app and in the ward list: the mode of the service, its pilot users, the users' roles."""

from __future__ import annotations

from cds_hooks import HookError
from cds_service.config.modes import MODE_OF, Mode
from cds_service.hooks.hook_handler import HookHandler


def tasks_shown(handler: HookHandler, user: str, tenant: str | None) -> tuple[str, ...]:
    """Returns the tasks whose estimates this user may see now; `user` is empty if unknown.

    Raises HookError 403 if there are none, or not for this user, and StoreError.
    """
    mode = handler.modes.of(MODE_OF, tenant)
    pilot = mode is Mode.PILOT and user in handler.settings.pilot_users
    tasks = handler.modes.active(handler.pipeline.models, tenant)
    if (mode is not Mode.LIVE and not pilot) or not tasks:
        raise HookError(403, "suppressed", "Risk estimates are currently switched off here.")
    # Without a user the EHR's own access rules apply; with one, the role must be allowed.
    if user and user.partition("/")[0] not in handler.settings.roles:
        raise HookError(403, "suppressed", "Risk estimates are available to clinicians of this site only.")
    return tasks
