"""Server-sent events reach the client as they come, also those of an app that has never heard of nginx."""

import flask_ops
import pytest
from flask import Flask, Response


@pytest.fixture
def client():
    app = Flask("shop")

    @app.get("/events")
    def events():
        return Response(iter(["data: 1\n\n"]), mimetype="text/event-stream")

    @app.get("/gathered")
    def gathered():
        return Response(
            iter(["data: 1\n\n"]), mimetype="text/event-stream", headers={"x-accel-buffering": "yes"}
        )

    @app.get("/page")
    def page():
        return "text/event-stream"

    flask_ops.init_app(app)
    return app.test_client()


def test_events_are_not_held_back_by_nginx(client):
    answer = client.get("/events")
    assert answer.headers.getlist("X-Accel-Buffering") == ["no"]
    assert answer.text == "data: 1\n\n"


def test_the_apps_own_word_about_buffering_stands(client):
    assert client.get("/gathered").headers.getlist("X-Accel-Buffering") == ["yes"]


def test_other_answers_say_nothing_about_buffering(client):
    assert "X-Accel-Buffering" not in client.get("/page").headers
