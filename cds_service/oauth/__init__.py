"""OAuth and OpenID Connect for SMART: discovery, grants, identity, scopes, keys, encrypted sessions."""

from cds_service.oauth.errors import SmartError

__all__ = [
    "SmartError",
]
