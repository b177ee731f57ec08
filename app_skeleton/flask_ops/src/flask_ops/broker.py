"""Say where Celery's queues are, in Celery's words and with the password from its credential."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from .addresses import place_of
from .settings import credential


def celery_url(url: str) -> str:
    """Return a broker's address as Celery wants it.

    A password comes from the credential ``broker_password``; for Redis, if there is no such credential, from
    ``redis_password``. One that stands in the address stays.

    :param url: ``redis://``, ``rediss://``, ``unix://`` as redis-py calls a socket, ``amqp://`` or ``amqps://``.
    """
    parts = urlsplit(url)
    query = parts.query
    password = credential("broker_password", None)
    if not parts.scheme.startswith("amqp"):
        password = password or credential("redis_password", None)
    place = place_of(parts, password)
    if parts.scheme == "unix":
        # Celery calls a unix socket by another name than redis-py, and a database too.
        number = parse_qs(query).get("db", ["0"])[0]
        return f"redis+socket://{place}{parts.path}?virtual_host={number}"
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in parse_qs(query):
        # Kombu alone would take any certificate; redis-py, in the same process, does not.
        query = "&".join(filter(None, [query, "ssl_cert_reqs=required"]))
    # geturl() leaves out the slashes before an empty place, and Celery takes what is left for a host's name.
    return f"{parts.scheme}://{place}{parts.path}{f'?{query}' if query else ''}"
