import io

import pytest
from inbox import outbox
from inbox.messages import inbox
from inbox.messages.models import Attempt, Message, Tally
from inbox.models import db
from kombu.exceptions import OperationalError
from sqlalchemy import func, select


def rows(app, model=Message):
    with app.app_context():
        return db.session.scalars(select(model).order_by(*model.__table__.primary_key)).all()


@pytest.mark.parametrize("scheme", ["github", "stripe"])
def test_signed_webhook_is_stored_processed_and_counted_once(app, client, sender, scheme):
    send = getattr(sender, scheme)
    first = send(client)
    assert (first.status_code, first.json["status"]) == (202, "accepted")
    again = send(client)
    assert (again.status_code, again.json) == (202, {"id": first.json["id"], "status": "duplicate"})
    (message,) = rows(app)
    assert (message.id, message.source, message.status, message.attempt_count) == (1, scheme, "done", 1)
    assert message.processed_at
    assert message.request_id
    (tally,) = rows(app, Tally)
    assert (tally.source, tally.count, tally.day) == (scheme, 1, message.received_at.date())
    assert [attempt.outcome for attempt in rows(app, Attempt)] == ["done"]


def test_recorded_delivery_sent_under_another_id_is_refused(app, client, sender):
    body = b'{"ref": "refs/heads/main"}'
    assert sender.github(client, "d-1", body=body).status_code == 202
    answer = sender.github(client, "d-2", body=body)
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    assert len(rows(app)) == 1


def test_recorded_stripe_delivery_is_refused_once_it_is_old(app, client, sender):
    answer = sender.stripe(client, moment=1_700_000_000)
    assert (answer.status_code, answer.json["title"]) == (403, "Forbidden")
    assert "clock" in answer.json["detail"]
    assert rows(app) == []


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/hooks/nobody", {"json": {}}, 404),
        ("/hooks/github", {"json": {}}, 403),
        ("/hooks/github", {"data": b"payload=1"}, 415),
        ("/hooks/github", {"data": b" " * (1024 * 1024 + 1), "content_type": "application/json"}, 413),
        ("/hooks/stripe", {"json": {"id": "evt_1", "type": "a"}}, 403),
        ("/hooks", {"json": {}}, 404),
    ],
)
def test_what_is_no_signed_webhook_is_refused_with_a_problem(app, client, path, options, status):
    answer = client.post(path, **options)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.json["status"] == status
    assert client.get("/hooks/github").status_code == 405
    assert rows(app) == []


def test_body_without_a_length_is_limited_all_the_same(app, client, sender):
    answer = client.post(
        "/hooks/github",
        input_stream=io.BytesIO(b" " * (1024 * 1024 + 1)),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "", "wsgi.input_terminated": True},
    )
    assert answer.status_code == 413


def test_webhook_is_taken_while_the_broker_is_away_and_not_asked_again_at_once(make_app, sender, monkeypatch):
    app = make_app(WEBHOOK_SOURCES=sender.sources())
    asked = []

    def away(*args, **kwargs):
        asked.append(args)
        raise OperationalError("no broker")

    monkeypatch.setattr("celery.app.task.Task.apply_async", away)
    for number in range(3):
        assert sender.github(app.test_client(), f"d-{number}").status_code == 202
    assert len(asked) == 1
    assert {message.status for message in rows(app)} == {"pending"}


def test_list_of_sources_with_their_own_secrets_comes_from_settings(monkeypatch, tmp_path):
    from flask_ops.settings import Reader
    from inbox.messages import settings

    monkeypatch.setenv("WEBHOOK_SOURCES", '{"shop-eu": "stripe"}')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "app_webhook_shop_eu").write_text("new\n\nold\n")
    (source,) = settings.load(Reader())["WEBHOOK_SOURCES"].values()
    assert (source.name, source.scheme, source.secrets) == ("shop-eu", "stripe", ("new", "old"))
    assert "new" not in repr(source)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"a b": "github"}', "no name for a source"),
        ('{"a": "svix"}', "there is github, stripe"),
        ("[", "JSON"),
    ],
)
def test_mistaken_sources_are_named(monkeypatch, value, said):
    from flask_ops.settings import Reader, SettingError
    from inbox.messages import settings

    monkeypatch.setenv("WEBHOOK_SOURCES", value)
    monkeypatch.setenv("RELAY_URL", "ftp://example.org")
    read = Reader()
    settings.load(read)
    with pytest.raises(SettingError, match=said) as raised:
        read.finish()
    assert "RELAY_URL" in str(raised.value)


@pytest.mark.parametrize(("name", "value"), [("RETENTION_DAYS", "6"), ("WEBHOOK_TOLERANCE_SECONDS", "3601")])
def test_delivery_is_not_forgotten_while_it_may_come_again(monkeypatch, name, value):
    from flask_ops.settings import Reader, SettingError
    from inbox.messages import settings

    monkeypatch.setenv(name, value)
    read = Reader()
    settings.load(read)
    with pytest.raises(SettingError, match=f"{name}={value} is out of range"):
        read.finish()
    assert settings.RETENTION_MIN_DAYS * 86400 > settings.TOLERANCE_MAX_SECONDS


def test_count_of_messages_is_what_was_sent(app, client, sender):
    for number in range(5):
        sender.github(client, f"d-{number}")
    with app.app_context():
        assert db.session.scalar(select(func.sum(Tally.count))) == 5


def test_beat_looks_after_a_message_once_nobody_sends_it_any_more():
    assert outbox.KEEP_SECONDS < inbox.FIRST_LOOK_SECONDS
