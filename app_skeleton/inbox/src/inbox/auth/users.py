"""Make users, and tell whether a password is theirs."""

from __future__ import annotations

import re
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from flask import current_app
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from .. import store
from ..models import db, now
from .models import EMAIL_MAX_CHARACTERS, ROLES, User, new_stamp

PASSWORD_MIN_CHARACTERS = 12
#: Hashing is slow on purpose; a longer password would only be a way to make it slower.
PASSWORD_MAX_CHARACTERS = 256
#: From when the store is told of a change until the database has it, tokens are given out as before.
WRITING_SECONDS = 60
_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+")


class InvalidUser(Exception):
    """A user cannot be made so; the words say why."""


def add(email: str, password: str, role: str) -> User:
    """Make a user.

    :param email: what they sign in with; case does not matter.
    :param password: at least `PASSWORD_MIN_CHARACTERS`.
    :param role: one of :data:`inbox.auth.models.ROLES`.
    :raises InvalidUser: if one of these is not good, or somebody has the address.
    """
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email) or len(email) > EMAIL_MAX_CHARACTERS:
        raise InvalidUser(f"{email!r} is no e-mail address.")
    _require_role(role)
    _require_good(password)
    if by_email(email) is not None:
        raise InvalidUser(f"{email} is a user already.")
    user = User(email=email, password_hash=_hasher().hash(password), role=role)
    db.session.add(user)
    try:
        db.session.commit()
    except IntegrityError:  # somebody was faster
        db.session.rollback()
        raise InvalidUser(f"{email} is a user already.") from None
    return user


def set_password(user: User, password: str) -> None:
    """Change a password, and end every session and token of the user.

    :raises InvalidUser: if it is too short or too long.
    :raises StoreUnavailable: if tokens cannot be ended; nothing is changed then.
    """
    _require_good(password)
    user.password_hash = _hasher().hash(password)
    _end_all(user)


def disable(user: User) -> None:
    """Let a user in no more, and end every session and token of theirs.

    :raises InvalidUser: if no admin would be left.
    :raises StoreUnavailable: if tokens cannot be ended; nothing is changed then.
    """
    _require_another_admin(user)
    user.disabled_at = now()
    _end_all(user)


def enable(user: User) -> None:
    """Let a disabled user in again, with their password; what :func:`disable` ended stays ended."""
    user.disabled_at = None
    db.session.commit()


def set_role(user: User, role: str) -> None:
    """Give a user another role, and end every session and token of theirs: a token says the former one.

    Nothing ends for somebody who has the role already.

    :param role: one of :data:`inbox.auth.models.ROLES`.
    :raises InvalidUser: if there is no such role, or no admin would be left.
    :raises StoreUnavailable: if tokens cannot be ended; nothing is changed then.
    """
    _require_role(role)
    if user.role == role:
        return
    _require_another_admin(user)
    user.role = role
    _end_all(user)


def _require_another_admin(user: User) -> None:
    """Refuse to take the last admin away who may sign in.

    The rows stay locked until the change is written: of two operators who each take away the other's admin,
    the second waits, and is refused.
    """
    admins = select(User.id).where(User.role == "admin", User.disabled_at.is_(None)).order_by(User.id)
    if db.session.scalars(admins.with_for_update()).all() == [user.id]:
        db.session.rollback()
        raise InvalidUser(
            f"{user.email} is the only admin who may sign in: let another in first. "
            "To lock this one out now, change the password."
        )


def _end_all(user: User) -> None:
    """Write a user's changes, and end every session and token they hold.

    The stamp ends sessions and refresh tokens. Access tokens are not looked up in the database: they are told
    by the stamp they carry, for as long as one may live.
    """
    seconds = current_app.config["JWT_ACCESS_TOKEN_EXPIRES"].total_seconds() + WRITING_SECONDS
    # Anew, if an earlier change could not be written: tokens were given out under this stamp since.
    store.current().keep(f"stamp:{user.stamp}", seconds)
    user.stamp = new_stamp()
    db.session.commit()


def by_email(email: str) -> User | None:
    """Return the user with an address."""
    return db.session.scalar(select(User).filter_by(email=email.strip().lower()))


def authenticate(email: str, password: str) -> User | None:
    """Return the user with that address and password, None if there is none.

    It takes as long for an unknown address as for a wrong password: the time does not tell who is a user.
    """
    if not (_is_storable(email) and _is_storable(password)):
        return None
    user = by_email(email)
    # The answer takes a while to compute: no connection is held meanwhile.
    hashed = user.password_hash if user else _hash_of_nobody()
    db.session.rollback()
    try:
        _hasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return None
    if user is None:
        return None
    db.session.refresh(user)
    # Disabled, or given another password, while this one was looked at.
    if user.disabled_at is not None or user.password_hash != hashed:
        return None
    # What follows asks Redis: it needs the user as read here, and no connection.
    db.session.expunge(user)
    _rehash(user, password)
    db.session.rollback()
    return user


def _rehash(user: User, password: str) -> None:
    """Hash a password as this release does, if an earlier one did it otherwise."""
    if not _hasher().check_needs_rehash(user.password_hash):
        return
    # Only over what was verified: another password may have been set meanwhile.
    statement = update(User).where(User.id == user.id, User.password_hash == user.password_hash)
    db.session.execute(statement.values(password_hash=_hasher().hash(password)))
    db.session.commit()


def _is_storable(text: str) -> bool:
    """Return whether a text could be an address or a password: JSON can say what no UTF-8 holds."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return len(text) <= PASSWORD_MAX_CHARACTERS and "\0" not in text


def _require_role(role: str) -> None:
    if role not in ROLES:
        raise InvalidUser(f"{role!r} is no role; there is {', '.join(ROLES)}.")


def _require_good(password: str) -> None:
    if not (len(password) >= PASSWORD_MIN_CHARACTERS and _is_storable(password)):
        raise InvalidUser(
            f"A password has {PASSWORD_MIN_CHARACTERS} to {PASSWORD_MAX_CHARACTERS} characters."
        )


def _hasher() -> PasswordHasher:
    """Return the hasher: argon2id with the first of OWASP's parameter sets, 19 MiB and two passes.

    https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
    """
    if current_app.testing:
        return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@cache
def _hash_of_nobody() -> str:
    return _hasher().hash(new_stamp())
