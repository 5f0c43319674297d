"""For the tour of https.md: a page that says who asked, and how. `gunicorn app:app` serves it."""

from html import escape

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Hello</title>
<style>body {{ font: 1.3rem sans-serif; margin: 12rem 3rem 3rem; background: #e6f4ea; color: #0d652d }}</style></head>
<body><h1>Hello from gunicorn</h1><p>You are {client}, and you asked by {scheme} on port {port}.</p></body></html>
"""


def app(environ, start_response):
    page = PAGE.format(
        client=escape(environ.get("HTTP_X_FORWARDED_FOR", "somebody")),
        scheme=escape(environ["wsgi.url_scheme"]),
        port=escape(environ.get("HTTP_X_FORWARDED_PORT", "?")),
    ).encode()
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page)))])
    return [page]
