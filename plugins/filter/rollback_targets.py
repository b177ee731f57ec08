"""Find the release that all hosts can go back to."""

from __future__ import annotations


class FilterModule:
    """Hand the filter to Ansible."""

    def filters(self) -> dict:
        """Return it by name."""
        return {"rollback_targets": rollback_targets}


def rollback_targets(statuses: list[dict]) -> list[str]:
    """Return the releases a rollback of all hosts may mean: one, where that is clear.

    Where all hosts serve the same, that is what served before. Where they differ, because a deploy was killed
    half way, it is what serves on some and served before on the others.

    :param statuses: what `releasectl status` says on each host.
    """
    known = [{status.get("active"), status.get("previous")} - {None} for status in statuses]
    common = set.intersection(*known) if known else set()
    actives = {status.get("active") for status in statuses}
    return sorted(common - actives if len(actives) == 1 else common)
