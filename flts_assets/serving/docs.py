"""/docs without another host: Swagger UI as the package fastapi-offline brings it."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html

from flts_assets.errors import ObjectNotFoundError

__all__ = ["docs_router"]

MEDIA_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
HEADERS: Final = {
    # Swagger UI starts by a script in the page, styles its parts one by one and draws from data: URLs.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def docs_router(title: str) -> APIRouter:
    """The page and its two files."""
    router = APIRouter(include_in_schema=False)
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="page/icon.svg",
        # Its badge would show our document to a host of theirs.
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers.update(HEADERS)

    @router.get("/docs")
    async def docs() -> Response:
        return page

    @router.get("/docs/{name}")
    async def file(name: str) -> Response:
        if name not in MEDIA_TYPES:
            raise ObjectNotFoundError(
                "the documents have no such file",
                received=name[:200],
                allowed=", ".join(MEDIA_TYPES),
            )
        content = (files("fastapi_offline") / "static" / name).read_bytes()
        return Response(content, headers=HEADERS, media_type=MEDIA_TYPES[name])

    return router
