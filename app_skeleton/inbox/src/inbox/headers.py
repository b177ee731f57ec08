"""Tell browsers to load this site's own files and nothing else: strangers wrote what the pages show."""

from __future__ import annotations

from flask import Flask, Response

POLICY = {
    "default_src": "'none'",
    "style_src": "'self'",
    "img_src": "'self'",
    "form_action": "'self'",
    "base_uri": "'none'",
    "frame_ancestors": "'none'",
}


def init_app(app: Flask) -> None:
    """Restrict every page of the app, those for addresses that match no route among them."""
    app.after_request(restrict)


def restrict(response: Response) -> Response:
    """Keep all answers out of other sites' pages; give pages a policy, and keep them out of shared caches."""
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    if response.mimetype == "text/html":
        for directive, value in POLICY.items():
            if getattr(response.content_security_policy, directive) is None:
                setattr(response.content_security_policy, directive, value)
        response.headers.setdefault("Cache-Control", "no-store")
    return response
