"""Who may ask: a bearer token, compared in constant time."""

from __future__ import annotations

import hmac

from starlette.requests import Request

from flts_assets.errors import FltsError

__all__ = ["ForbiddenError", "UnauthorizedError", "require_token"]


class UnauthorizedError(FltsError):
    """A request without the token it needs."""


class ForbiddenError(FltsError):
    """A request for what nobody may do here."""


def require_token(request: Request, token: str | None) -> None:
    """Raises UnauthorizedError unless the request carries the token; None: everybody may ask."""
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Headers are latin-1 to Starlette; this is what was sent.
    sent = given.encode("latin-1")
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent, token.encode()):
        raise UnauthorizedError(
            "the request carries no valid token", allowed="Authorization: Bearer <token>"
        )
