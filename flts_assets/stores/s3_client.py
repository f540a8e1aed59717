"""The boto3 client behind the S3 store: every wait bounded, every error told as FLTS's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from flts_assets.errors import EnvironmentValueError, ObjectStoreError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

__all__ = [
    "ATTEMPTS",
    "client_errors",
    "code_of",
    "cut_short",
    "open_client",
    "translated",
    "was_retried",
]

ATTEMPTS: Final = 3
"""of each request"""

_REMEDIES: Final = {
    "AccessDenied": "let these credentials read, write, list and delete in that bucket",
    "403": "check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and their policy",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a role",
    "RequestTimeTooSkewed": "set this machine's clock",
}


def open_client(
    timeout_s: float, *, profile_name: str | None = None, unsigned: bool = False, **options: Any
) -> Any:
    """A boto3 S3 client whose requests end within about 3 x `timeout_s`.

    What `options` (those of boto3's `client`) leave out is found as boto3 finds it: AWS_ENDPOINT_URL,
    AWS_ACCESS_KEY_ID, a profile, a role. Raises EnvironmentValueError for an address that is none.
    """
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        connect_timeout=min(timeout_s, 5),
        read_timeout=timeout_s,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=16,
        signature_version=UNSIGNED if unsigned else None,
    )
    try:
        session = boto3.session.Session(profile_name=profile_name)
        return session.client("s3", config=config, **options)
    except ValueError as error:  # botocore's "Invalid endpoint"
        raise EnvironmentValueError(
            "the address of S3 is none (AWS_ENDPOINT_URL)",
            allowed="http://host:port or https://host:port",
            remedy="correct it, or unset it for AWS itself",
        ) from error


@contextmanager
def translated(doing: str, bucket: str, key: str) -> Iterator[None]:
    """botocore's errors as ObjectStoreError, told without what a request or an address may hold."""
    from botocore.exceptions import ClientError

    try:
        yield
    except client_errors() as error:
        code = code_of(error) if isinstance(error, ClientError) else type(error).__name__
        what = f"S3 did not {doing} {bucket}/{key}".rstrip("/")
        remedy = _REMEDIES.get(
            code, "check AWS_ENDPOINT_URL and that its server answers (flts doctor), then run again"
        )
        raise ObjectStoreError(what, received=code, remedy=remedy) from error


def client_errors() -> tuple[type[Exception], ...]:
    """What a boto3 client raises: the server's refusals, and its own."""
    from botocore.exceptions import BotoCoreError, ClientError

    return (ClientError, BotoCoreError)


def cut_short() -> tuple[type[Exception], ...]:
    from botocore.exceptions import (
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    return (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def was_retried(error: ClientError) -> bool:
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0
