"""The app the benches serve: written as most Flask apps are, and without a word about flask_ops."""

from __future__ import annotations

import os
from datetime import datetime
from decimal import Decimal

from flask import Flask, abort, jsonify
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SHOWN_ORDERS = 20


class Base(DeclarativeBase):
    """Base of the models; schema.sql makes their tables."""


db = SQLAlchemy(model_class=Base)


class Customer(db.Model):
    """Who orders."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city: Mapped[str]


class Order(db.Model):
    """What was ordered."""

    __tablename__ = "customer_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    article: Mapped[str]
    price: Mapped[Decimal]
    ordered_at: Mapped[datetime]


def create_app() -> Flask:
    """Make the app: a list from the database, the same with one log line, one line of JSON, one to keep."""
    app = Flask("bench")
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCH_DATABASE_URL"]
    db.init_app(app)

    @app.get("/hello")
    def hello():
        return {"hello": "world"}

    @app.get("/kept")
    def kept():
        answer = jsonify(hello="world")
        answer.cache_control.public = True
        answer.cache_control.max_age = 3600
        # What flask_ops says of each answer, and nginx's cache asks for.
        answer.headers["X-Release"] = os.environ.get("BENCH_RELEASE", "")
        return answer

    @app.get("/customers/<int:customer_id>/orders")
    def orders(customer_id):
        return _orders(customer_id)

    @app.get("/customers/<int:customer_id>/logged")
    def logged(customer_id):
        answer = _orders(customer_id)
        app.logger.info("listed %d orders of customer %d", len(answer["orders"]), customer_id)
        return answer

    return app


def _orders(customer_id: int) -> dict:
    customer = db.session.get(Customer, customer_id) or abort(404)
    newest = select(Order).where(Order.customer_id == customer_id).order_by(Order.id.desc())
    return {
        "customer": {"id": customer.id, "name": customer.name, "city": customer.city},
        "orders": [_shown(order) for order in db.session.scalars(newest.limit(SHOWN_ORDERS))],
    }


def _shown(order: Order) -> dict:
    return {
        "id": order.id,
        "article": order.article,
        "price": str(order.price),
        "ordered_at": order.ordered_at.isoformat(),
    }
