"""Run by gunicorn: count the requests that arrive by the ids they carry, and say each its own."""

import collections
import json

COUNTS = collections.Counter()


def app(environ, start_response):
    """Answer with the request's id and the length of its body, or to ``/counts`` with all there was since."""
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/counts":
        answer = json.dumps(COUNTS).encode()
        COUNTS.clear()
    else:
        name = environ.get("HTTP_X_ID", "")
        COUNTS[name] += 1
        told = {"id": name, "length": len(body), "host": environ.get("HTTP_HOST")}
        answer = json.dumps(told).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer))), ("X-App", "1")]
    start_response("200 OK", headers)
    return [answer]
