"""The description of the API, for programs (``/openapi.json``) and people (``/docs``), with nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

router = APIRouter(include_in_schema=False)

STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
:root { color-scheme: light dark }
code { font-family: ui-monospace, monospace }
h2 { margin-top: 2.5rem; border-bottom: 1px solid; text-transform: capitalize }
h3 { margin-bottom: 0 }
dl { display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem; margin: .5rem 0 0 1rem }
dd { margin: 0 }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"


@router.get("/openapi.json")
async def get_openapi(request: Request) -> Response:
    return JSONResponse(request.app.state.openapi)


@router.get("/docs")
async def get_docs(request: Request) -> Response:
    return HTMLResponse(rendered(request.app.state.openapi), headers={"Content-Security-Policy": POLICY})


def rendered(document: dict[str, Any]) -> str:
    """The description as one HTML page without scripts."""
    info = document["info"]
    body = "\n".join(_sections(document))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(info["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>\n'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>\n<p>{_prose(info['description'])}</p>\n"
        f'<p>The same for programs: <a href="/openapi.json">openapi.json</a></p>\n{body}\n</html>\n'
    )


def _sections(document: dict[str, Any]) -> Iterator[str]:
    tag = None
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield f"<h2>{escape(tag)}</h2>"
            yield _operation(method, path, operation)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    terms = [
        (parameter["name"], _meaning(parameter["schema"], parameter)) for parameter in operation.get("parameters", ())
    ]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        required = schema.get("required", ())
        terms += [
            (name + ("" if name in required else "?"), _meaning(member, member))
            for name, member in schema["properties"].items()
        ]
    listed = "".join(f"<dt><code>{escape(name)}</code></dt><dd>{meaning}</dd>" for name, meaning in terms)
    replies = [
        (status, reply["description"]) for status, reply in operation["responses"].items() if status != "default"
    ]
    listed += "".join(f"<dt>{escape(status)}</dt><dd>{_prose(text)}</dd>" for status, text in replies)
    heading = f"<h3><code>{method.upper()} {escape(path)}</code></h3>"
    return f"{heading}\n<p>{_prose(operation['description'])}</p>\n<dl>{listed}</dl>"


def _meaning(schema: dict[str, Any], described: dict[str, Any]) -> str:
    choices = [choice for part in schema.get("anyOf", [schema]) for choice in part.get("enum", [])]
    bounds = [f"{word} {schema[key]:.12g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    words = [
        described.get("description", ""),
        " ".join(bounds),
        ", ".join(f"`{choice}`" for choice in choices if choice),
    ]
    return "; ".join(_prose(word) for word in words if word)


def _prose(text: str) -> str:
    """Escaped, with `words in backquotes` as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
