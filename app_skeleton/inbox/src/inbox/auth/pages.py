"""The pages for signing in and out."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import EmailField, PasswordField
from wtforms.validators import InputRequired

from . import sessions, throttle

bp = Blueprint("auth", __name__, url_prefix="/auth")


class SignInForm(FlaskForm):
    """An address and a password."""

    email = EmailField("E-mail", [InputRequired()], render_kw={"autocomplete": "username"})
    password = PasswordField("Password", [InputRequired()], render_kw={"autocomplete": "current-password"})


@bp.get("/sign-in")
def sign_in() -> str | Response:
    """Ask who somebody is."""
    if sessions.user():
        return redirect(sessions.safe_next(request.args.get("next")) or url_for("admin.home"))
    return render_template("auth/sign_in.html", form=SignInForm())


@bp.post("/sign-in")
def take_sign_in() -> Response | tuple[str, int]:
    """Begin a session."""
    form = SignInForm()
    if form.validate_on_submit():
        user = throttle.authenticate(form.email.data, form.password.data)
        if user:
            sessions.sign_in(user)
            return redirect(sessions.safe_next(request.args.get("next")) or url_for("admin.home"), 303)
        form.form_errors.append("The address or the password is wrong.")
    return render_template("auth/sign_in.html", form=form), 401


@bp.post("/sign-out")
def sign_out() -> Response:
    """End the session."""
    sessions.sign_out()
    flash("You are signed out.")
    return redirect(url_for("auth.sign_in"), 303)
