"""Ask the senders' own status pages how they are, all of them side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

TIMEOUT_SECONDS = 5.0
#: Somebody else's answer: no more of it is read than such an answer needs.
ANSWER_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Provider:
    """How a sender says it is.

    :param state: its own word, such as ``none``, ``minor``, ``major``; ``unknown`` if it did not say.
    :param words: the same for people.
    """

    name: str
    state: str
    words: str


async def ask_all(urls: Mapping[str, str]) -> list[Provider]:
    """Return every provider's state; it takes as long as the slowest one.

    :param urls: name to the address of a status page in Statuspage's format
        (https://www.githubstatus.com/api#status).
    """
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client:
        return list(await asyncio.gather(*(_ask(client, name, url) for name, url in urls.items())))


async def _ask(client: httpx.AsyncClient, name: str, url: str) -> Provider:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), client.stream("GET", url) as answer:
            answer.raise_for_status()
            content = b""
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > ANSWER_MAX_BYTES:
                    return Provider(name, "unknown", "Its answer is too long.")
            status = httpx.Response(200, content=content).json()["status"]
            return Provider(name, _words(status["indicator"], 40), _words(status["description"], 200))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return Provider(name, "unknown", f"No answer: {type(error).__name__}.")
    except (ValueError, LookupError, TypeError, RecursionError):
        return Provider(name, "unknown", "Its answer is not understood.")


def _words(value: object, characters: int) -> str:
    # JSON can hold half of a character, which no page can.
    return str(value)[:characters].encode("utf-8", "replace").decode()
