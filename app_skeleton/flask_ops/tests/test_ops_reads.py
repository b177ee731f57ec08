import pytest
import sqlalchemy as sa
from flask import Flask
from flask_ops import reads
from flask_sqlalchemy import SQLAlchemy
from psycopg.pq import TransactionStatus
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base, session_options={"class_": reads.Session})


class Note(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[str]


class Elsewhere(db.Model):
    __bind_key__ = "elsewhere"
    id: Mapped[int] = mapped_column(primary_key=True)


def make_app(url, *, binds):
    app = Flask(__name__)
    app.config.update(SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_BINDS=binds)
    db.init_app(app)

    @app.route("/notes", methods=["GET", "POST"])
    def notes():
        found = db.session.scalars(sa.select(Note.words).order_by(Note.id)).all()
        driver = db.session.connection(bind_arguments={"mapper": Note}).connection.dbapi_connection
        return {"notes": found, "transaction": driver.info.transaction_status.name}

    @app.route("/write/<words>", methods=["GET", "POST"])
    def write(words):
        db.session.add(Note(words=words))
        db.session.commit()
        return {}

    @app.post("/regret/<words>")
    def regret(words):
        db.session.add(Note(words=words))
        db.session.flush()
        db.session.rollback()
        return {}

    @app.get("/elsewhere")
    def elsewhere():
        return {"engine": db.session.get_bind(Elsewhere).url.get_backend_name()}

    return app


@pytest.fixture
def app(postgresql):
    app = make_app(
        postgresql,
        binds={"reads": reads.engine_options(postgresql, pool_size=1), "elsewhere": {"url": "sqlite://"}},
    )
    with app.app_context():
        db.create_all(bind_key=None)
    yield app
    with app.app_context():
        db.session.remove()
        db.drop_all(bind_key=None)
        for engine in db.engines.values():
            engine.dispose()


def test_get_reads_what_a_post_has_committed_without_a_transaction(app):
    client = app.test_client()
    for words in ("one", "two"):
        assert client.post(f"/write/{words}").status_code == 200
        client.post("/regret/never")
    assert client.get("/notes").json == {"notes": ["one", "two"], "transaction": TransactionStatus.IDLE.name}
    told = client.post("/notes").json
    assert told == {"notes": ["one", "two"], "transaction": TransactionStatus.INTRANS.name}


def test_get_that_writes_is_refused_and_stores_nothing(app):
    app.testing = False
    client = app.test_client()
    assert client.get("/write/secretly").status_code == 500
    assert client.get("/notes").json["notes"] == []
    with app.test_request_context("/"), pytest.raises(sa.exc.InternalError, match="read-only transaction"):
        db.session.execute(sa.insert(Note).values(words="secretly"))


def test_only_a_read_of_this_database_gets_the_reading_engine(app):
    def engine():
        return db.session.get_bind(Note)

    assert app.test_client().get("/elsewhere").json == {"engine": "sqlite"}
    with app.app_context():
        engines = dict(db.engines)
        assert engine() is engines[None]
        assert db.session.get_bind(bind=engines[None]) is engines[None]
    for method, key in (("GET", "reads"), ("HEAD", "reads"), ("POST", None), ("DELETE", None)):
        with app.test_request_context("/", method=method):
            assert engine() is engines[key], method


def test_app_without_the_reading_engine_is_as_before(postgresql):
    app = make_app(postgresql, binds={})
    with app.test_request_context("/"):
        assert db.session.get_bind(Note) is db.engine
        db.engine.dispose()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("postgresql+psycopg://h/d?options=-c%20statement_timeout%3D5000", {}),
        ("postgresql+psycopg://h/d", {"connect_args": {"options": "-c statement_timeout=5000", "port": 1}}),
    ],
    ids=["in the URL", "as arguments"],
)
def test_options_of_the_connection_are_kept(url, options):
    made = reads.engine_options(url, pool_size=3, **options)
    arguments = made["connect_args"]
    assert arguments.pop("options") == "-c statement_timeout=5000 -c default_transaction_read_only=on"
    assert arguments == ({"port": 1} if options else {})
    assert (made["url"], made["pool_size"]) == (url, 3)
