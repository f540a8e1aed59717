"""How the service runs, read from the environment once.

FLTS_SERVING_TOKEN          a bearer token that forecasts then need; none: everybody may ask
FLTS_SERVING_CORS           origins that browsers may call from, separated by commas
FLTS_SERVING_MAX_BODY       largest body in bytes; default 16,000,000
FLTS_SERVING_MAX_IN_FLIGHT  requests at once before 503; default 2,000
FLTS_SERVING_POLL_S         seconds between looks at the pointers; default 1
FLTS_SERVING_CONFIG_HASH    this recipe's champion is served alone; none: every recipe's
FLTS_SERVING_LOG            off: forecasts are not written to the prediction log; default on
FLTS_SERVING_WORKERS        where the workers of one `flts serve` meet; it makes this folder itself
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flts_assets.environment import Environment

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
    config_hash: str | None = None
    workers: Path | None = None

    def __repr__(self) -> str:
        """Without the token: it must not reach a log."""
        return f"ServingSettings(max_body={self.max_body}, max_in_flight={self.max_in_flight})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ServingSettings:
        """Raises EnvironmentValueError for a variable that is set but empty or malformed."""
        read = Environment(os.environ if environ is None else environ)
        origins = read.text("FLTS_SERVING_CORS", "")
        workers = read.text("FLTS_SERVING_WORKERS")
        return cls(
            token=read.text("FLTS_SERVING_TOKEN"),
            cors_origins=tuple(part.strip() for part in origins.split(",") if part.strip()),
            max_body=read.count("FLTS_SERVING_MAX_BODY", cls.max_body, 1, 10**12),
            max_in_flight=read.count("FLTS_SERVING_MAX_IN_FLIGHT", cls.max_in_flight, 1, 10**6),
            poll_s=read.number("FLTS_SERVING_POLL_S", cls.poll_s, 0.01, 86_400),
            log_predictions=read.switch("FLTS_SERVING_LOG", cls.log_predictions),
            config_hash=read.matching("FLTS_SERVING_CONFIG_HASH", "[0-9a-f]{64}", "a config hash")
            or None,
            workers=Path(workers) if workers else None,
        )
