"""Commands for those who run the app: ``flask --app inbox users ...``."""

from __future__ import annotations

import secrets

import click
from flask import Flask
from flask.cli import AppGroup, with_appcontext
from flask_migrate import upgrade
from flask_ops.settings import credential
from sqlalchemy import select

from .auth import users
from .auth.models import ROLES, User
from .models import db
from .store import StoreUnavailable

ADMIN = "admin@localhost"

group = AppGroup("users", help="Who may sign in.")


def init_app(app: Flask) -> None:
    """Add the commands."""
    app.cli.add_command(group)
    app.cli.add_command(prepare)


@group.command("add")
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@click.option(
    "--password-file",
    type=click.File("r"),
    help="Where the password stands; - reads it from the standard input.",
)
def add(email: str, role: str, password_file: click.File | None) -> None:
    """Let somebody sign in. Without --password-file a password is made and shown once."""
    made = secrets.token_urlsafe(18)
    password = password_file.read().rstrip("\r\n") if password_file else made
    user = _or_fail(users.add, email, password, role)
    click.echo(f"{user.email} may sign in as {user.role}.")
    if not password_file:
        click.echo(f"Password, shown this once: {made}")


@group.command("password")
@click.argument("email")
@click.option("--password-file", type=click.File("r"), help="As for `add`.")
def password(email: str, password_file: click.File | None) -> None:
    """Change a password; every session and token of the user ends."""
    made = secrets.token_urlsafe(18)
    _or_fail(
        users.set_password, _found(email), password_file.read().rstrip("\r\n") if password_file else made
    )
    click.echo("The password is changed." if password_file else f"New password, shown this once: {made}")


@group.command("disable")
@click.argument("email")
def disable(email: str) -> None:
    """Let somebody in no more; every session and token of theirs ends. Not the last admin."""
    _or_fail(users.disable, _found(email))
    click.echo(f"{email} may not sign in any more.")


@group.command("enable")
@click.argument("email")
def enable(email: str) -> None:
    """Let somebody who was disabled in again, with the password they had."""
    user = _found(email)
    _or_fail(users.enable, user)
    click.echo(f"{user.email} may sign in as {user.role}.")


@group.command("role")
@click.argument("email")
@click.argument("role", type=click.Choice(ROLES))
def change_role(email: str, role: str) -> None:
    """Change what somebody may do; every session and token of theirs ends."""
    user = _found(email)
    _or_fail(users.set_role, user, role)
    click.echo(f"{user.email} has the role {user.role}.")


@group.command("list")
def show() -> None:
    """List who may sign in."""
    for user in db.session.scalars(select(User).order_by(User.email)):
        click.echo(f"{user.email}\t{user.role}\t{'disabled' if user.disabled_at else ''}".rstrip())


@click.command("prepare")
@with_appcontext
def prepare() -> None:
    """Bring the database to this release's schema, and let a first admin in.

    That is who signs in as admin@localhost with the credential `admin_password`, where there is one and no
    user yet.
    """
    upgrade()
    secret = credential("admin_password", None)
    if secret and db.session.scalar(select(User.id).limit(1)) is None:
        _or_fail(users.add, ADMIN, secret, "admin")
        click.echo(f"{ADMIN} may sign in as admin.")


def _found(email: str) -> User:
    user = users.by_email(email)
    if user is None:
        raise click.ClickException(f"{email} is no user: flask --app inbox users list")
    return user


def _or_fail(change: object, *arguments: object) -> User:
    try:
        return change(*arguments)  # type: ignore[operator]
    except users.InvalidUser as error:
        raise click.ClickException(str(error)) from None
    except StoreUnavailable:
        # Tokens are told by it: without it some would be good for a while yet.
        raise click.ClickException("Redis does not answer: nothing was changed. Try again.") from None
