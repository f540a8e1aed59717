"""How the service runs, read from the environment once.

FLTS_SERVING_TOKEN          a bearer token that forecasts then need; none: everybody may ask
FLTS_SERVING_CORS           origins that browsers may call from, separated by commas
FLTS_SERVING_MAX_BODY       largest body in bytes; default 16,000,000
FLTS_SERVING_MAX_IN_FLIGHT  requests at once before 503; default 2,000
FLTS_SERVING_POLL_S         seconds between looks at the pointers; default 1
FLTS_SERVING_LOG            off: forecasts are not written to the prediction log; default on
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from flts_assets.errors import EnvironmentValueError

__all__ = ["ServingSettings"]


@dataclass(frozen=True)
class ServingSettings:
    """The service's limits and secrets."""

    token: str | None = None
    cors_origins: tuple[str, ...] = ()
    max_body: int = 16_000_000
    max_in_flight: int = 2_000
    poll_s: float = 1.0
    log_predictions: bool = True

    def __repr__(self) -> str:
        """Without the token: it must not reach a log."""
        return f"ServingSettings(max_body={self.max_body}, max_in_flight={self.max_in_flight})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ServingSettings:
        """Raises EnvironmentValueError for a variable that is set but empty or malformed."""
        environ = os.environ if environ is None else environ
        origins = _text(environ, "FLTS_SERVING_CORS") or ""
        return cls(
            token=_text(environ, "FLTS_SERVING_TOKEN"),
            cors_origins=tuple(part.strip() for part in origins.split(",") if part.strip()),
            max_body=int(_number(environ, "FLTS_SERVING_MAX_BODY", cls.max_body)),
            max_in_flight=int(_number(environ, "FLTS_SERVING_MAX_IN_FLIGHT", cls.max_in_flight)),
            poll_s=_number(environ, "FLTS_SERVING_POLL_S", cls.poll_s),
            log_predictions=_switch(environ, "FLTS_SERVING_LOG", cls.log_predictions),
        )


def _text(environ: Mapping[str, str], name: str) -> str | None:
    text = environ.get(name)
    if text is not None and not text.strip():
        raise EnvironmentValueError(
            f"environment variable {name} is empty",
            received=text,
            allowed="any text",
            remedy=f"set a value, or unset {name}",
        )
    return None if text is None else text.strip()


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = _text(environ, name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e12:
        raise EnvironmentValueError(
            f"environment variable {name} is not usable",
            received=text,
            allowed="a number above 0",
            remedy="correct or unset it",
        )
    return number


def _switch(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = _text(environ, name)
    if text is None:
        return default
    if text not in ("on", "off"):
        raise EnvironmentValueError(
            f"environment variable {name} is not usable",
            received=text,
            allowed="on or off",
            remedy="correct or unset it",
        )
    return text == "on"
