"""The frame of the pages: what leads where, an overview of the app's health, who may look at Flower."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, current_app

from . import pages


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in the navigation.

    :param title: what it says.
    :param endpoint: the view it leads to.
    :param role: who sees it.
    """

    title: str
    endpoint: str
    role: str = "viewer"


def init_app(app: Flask) -> None:
    """Add the pages' frame; a domain adds its own places with :func:`add`."""
    app.extensions["navigation"] = [Entry("Health", "admin.health")]
    app.register_blueprint(pages.bp)
    app.context_processor(lambda: {"navigation": current_app.extensions["navigation"]})


def add(app: Flask, *entries: Entry) -> None:
    """Put places before those that are there; the first of all is where people arrive."""
    navigation = app.extensions["navigation"]
    navigation[:0] = entries
