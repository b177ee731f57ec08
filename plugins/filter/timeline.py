"""Make one timeline of what several hosts' logs say."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

beside = str(Path(__file__).resolve().parents[1] / "module_utils")
if beside not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(beside)

from ansible.module_utils.log_reader import reader  # noqa: E402


class FilterModule:
    """Hand the filter to Ansible."""

    def filters(self) -> dict:
        """Return it by name."""
        return {"timeline": timeline}


def timeline(results: dict[str, dict], asked: dict) -> dict:
    """Return `lines` of all hosts by time, `words` for a person, and the hosts that did not answer by why.

    :param results: of `log_lines`, by host.
    :param asked: what the hosts were asked.
    """
    tracing, wanted = reader("tracing"), reader("wanted")
    asked = {name: str(value) for name, value in asked.items() if value != ""}
    answers = {host: result["answer"] for host, result in results.items() if "answer" in result}
    lines = [{"host": host, **line} for host, answer in answers.items() for line in answer["lines"]]
    lines.sort(key=lambda line: line["written"])
    most = wanted.wanted(asked).lines
    told = {
        # Of each host the newest came: of all together the newest are among them.
        "lines": sorted(lines[-most:], key=lambda line: (line["at"], line["written"])),
        "more": len(lines) > most or any(answer["more"] for answer in answers.values()),
        "looked": [f"{host}: {one}" for host, answer in answers.items() for one in answer["looked"]],
        "unread": [f"{host}: {one}" for host, answer in answers.items() for one in answer["unread"]],
        "seconds": {host: answer["seconds"] for host, answer in answers.items()},
        "silent": {
            host: str(result.get("msg") or "no answer").strip()
            for host, result in results.items()
            if "answer" not in result
        },
    }
    shown = [*tracing.table(told["lines"], with_ids="request_id" not in asked), *tracing.remarks(told)]
    words = shown if told["lines"] else tracing.nothing(asked, told)
    silent = [f"No answer, so this may not be all: {host}: {why}" for host, why in told["silent"].items()]
    return {**told, "words": "\n".join([*words, *silent])}
