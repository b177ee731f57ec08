"""Where scenarios change the sample app: a file of it, and a text that is there once."""

from __future__ import annotations

PAGE = "src/inbox/templates/auth/sign_in.html"
HEADING = "<h1>Sign in</h1>"
FACTORY = "src/inbox/__init__.py"
IMPORT = "from werkzeug.middleware.proxy_fix import ProxyFix\n"


def crash_after(seconds: int) -> str:
    """Return code that ends the server some seconds after it was imported, as a leak that eats the memory."""
    return f"""import os
if os.environ.get("FLASK_OPS_SERVICE", "").endswith("-web"):
    os.posix_spawn("/bin/sh", ["sh", "-c", "sleep {seconds}; kill -9 $PPID"], os.environ)
"""
