from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient


def test_docs_and_what_they_name_come_from_the_service_itself(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    named = re.findall(r'(?:src|href|url)(?:=|:\s*)["\']([^"\']+)', page.text)
    assert len(named) >= 4
    for name in named:
        assert "//" not in name
        assert client.get(f"/{name}").status_code == 200
    assert '"validatorUrl": null' in page.text


def test_swagger_s_files_are_what_they_should_be(client: TestClient) -> None:
    script = client.get("/docs/swagger-ui-bundle.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "SwaggerUIBundle" in script.text
    style = client.get("/docs/swagger-ui.css")
    assert style.headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("path", ["/docs/other.js", "/docs/..%2f__init__.py", "/redoc"])
def test_other_files_are_not_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
