"""A file that a client sent: as the body itself, or as the first file of a form."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from flts_assets.serving.limits import body_of
from flts_assets.serving.requests import RequestError

__all__ = ["Upload", "upload_of"]

FORM: Final = "multipart/form-data"


@dataclass(frozen=True)
class Upload:
    """A file's bytes, and what the client says they are."""

    content: bytes
    name: str
    """empty for a file that is the body itself"""
    media_type: str
    """without parameters, in small letters; empty if the client did not say"""


async def upload_of(request: Request, limit: int) -> Upload:
    """Raises BodyTooLargeError, and RequestError for a form that cannot be read or holds no file."""
    body = await body_of(request, limit)
    media_type = _plain(request.headers.get("content-type", ""))
    if media_type != FORM:
        return Upload(body, "", media_type)
    try:
        form = await MultiPartParser(request.headers, _stream(body)).parse()
    except (MultiPartException, UnicodeError) as error:
        raise RequestError("body", f"is not a form: {error}", allowed=FORM) from error
    try:
        for part in form.values():
            if isinstance(part, UploadFile):
                content = await part.read()
                name = (part.filename or "").encode(errors="replace").decode()
                return Upload(content, name, _plain(part.content_type or ""))
    finally:
        await form.close()
    raise RequestError("body", "the form holds no file", allowed="one file")


def _plain(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


async def _stream(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
