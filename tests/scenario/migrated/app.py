"""An app with a database and migrations that has never heard of this project."""

import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
# As a careful app does: a limit for requests, which a migration must not inherit.
limits = {"options": "-c statement_timeout=15000 -c lock_timeout=10000"}
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": limits}
db = SQLAlchemy(app)
Migrate(app, db)


@app.get("/")
def stock():
    return f"{db.session.execute(text('SELECT count(*) FROM stock')).scalar()} in stock"
