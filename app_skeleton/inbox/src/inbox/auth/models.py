"""The table of users."""

from __future__ import annotations

import secrets

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from ..models import Id, Model, Moment, now

EMAIL_MAX_CHARACTERS = 254
#: Each may do what those before it may.
ROLES = ("viewer", "operator", "admin")


def new_stamp() -> str:
    """Return what a session or a token must carry to be good; a new one ends all of a user's."""
    return secrets.token_hex(8)


class User(Model):
    """Somebody who may sign in, a person or a program."""

    __tablename__ = "user_account"  # `user` is a reserved word of SQL

    id: Mapped[Id]
    email: Mapped[str] = mapped_column(String(EMAIL_MAX_CHARACTERS), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(10))
    stamp: Mapped[str] = mapped_column(String(16), default=new_stamp)
    created_at: Mapped[Moment] = mapped_column(default=now)
    disabled_at: Mapped[Moment | None]

    def may(self, role: str) -> bool:
        """Return whether the user may do what a role may.

        :param role: one of :data:`ROLES`.
        """
        return allows(self.role, role)


def allows(role: object, wanted: str) -> bool:
    """Return whether a role may do what another may; what is no role may do nothing."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(wanted)
