"""A WSGI app of its own, with no framework."""

ANSWER = b'{"hello":"world"}\n'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))]


def app(environ, start_response):
    """Answer what ``/hello`` of the other apps does."""
    start_response("200 OK", HEADERS)
    return [ANSWER]
