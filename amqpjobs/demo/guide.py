"""The pages of the guide, to which the demo's web page links. Changes when they look otherwise."""

import html
import re
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse

CONTENT_SECURITY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'"

_HIDDEN = re.compile(r"^<!--.*?-->\n*", re.M | re.S)
_TITLE = re.compile(r"# (.+)")

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{title}</title>
  <link rel="icon" href="../page/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="../page/album.css">
</head>
<body class="guide">
  <nav><a href="../">Photo album</a> <a href="index">Guide</a></nav>
  <main>{body}</main>
</body>
</html>
"""

guide = APIRouter(prefix="/guide", include_in_schema=False)


@guide.get("/{page}")
def show(page: str) -> HTMLResponse:
    """A page of the guide, by its name or the name of its file."""
    name = page.removesuffix(".md")
    text = _read(name) if re.fullmatch(r"[a-z-]+", name) else None
    if text is None:
        raise HTTPException(404, "there is no such page of the guide")
    title = _TITLE.match(text)
    whole = _PAGE.format(title=html.escape(title[1] if title else name), body=_rendered(text))
    headers = {"Content-Security-Policy": CONTENT_SECURITY, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(whole, headers=headers)


def _read(name: str) -> str | None:
    file = files("amqpjobs").joinpath("guide", f"{name}.md")
    return _HIDDEN.sub("", file.read_text("utf-8")) if file.is_file() else None


@cache
def _rendered(text: str) -> str:
    # Of rich, which shows the same pages on a terminal with it.
    from markdown_it import MarkdownIt

    rendered: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return rendered
