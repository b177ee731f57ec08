"""An app as many are: Flask-Migrate's own env.py, limits for requests in its engine, nothing of flask_ops."""

import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL", "sqlite://")
if "postgresql" in app.config["SQLALCHEMY_DATABASE_URI"]:
    limits = {"options": "-c statement_timeout=20000 -c lock_timeout=15000", "application_name": "shop"}
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": limits}
db = SQLAlchemy(app)
Migrate(app, db, directory=os.environ.get("SHOP_MIGRATIONS", "migrations"))
