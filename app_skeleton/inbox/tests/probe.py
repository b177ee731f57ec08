"""A resource and a page to try the frame on, whatever the domain has of its own."""

import marshmallow as ma
from inbox import api
from inbox.api.service import Blueprint
from inbox.auth import sessions, tokens

PATH = "/api/v1/probe"
PAGE = "/probe"


class Question(ma.Schema):
    """What may be asked."""

    number = ma.fields.Integer(load_default=1, validate=ma.validate.Range(1, 10))


class Answer(ma.Schema):
    """What is answered."""

    number = ma.fields.Integer(required=True)


def put_into(app):
    """Add the probe to an app; return the app.

    :param app: one that has not answered anything yet.
    """
    bp = Blueprint("probe", __name__, url_prefix="/probe", description="To try the frame on")

    @bp.get("")
    @tokens.requires("viewer")
    @bp.arguments(Question, location="query")
    @bp.response(200, Answer)
    async def look(given):
        """Look at a number"""
        return given

    @bp.post("")
    @tokens.requires("operator")
    @bp.arguments(Question)
    @bp.response(201, Answer)
    def change(given):
        """Change a number"""
        return given

    api.register(app, bp)

    @app.get(PAGE)
    @sessions.requires("operator")
    async def page():
        return "seen"

    return app
