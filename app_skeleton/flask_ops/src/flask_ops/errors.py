"""Send errors to Sentry when there is somewhere to send them."""

from __future__ import annotations

from typing import Any

from .logs import current_request_id
from .settings import credential, release, setting


def init_sentry() -> bool:
    """Turn Sentry on if the credential ``sentry_dsn`` exists, and say whether it did.

    No cookies, addresses, query strings, request bodies or local variables leave the host: each may hold a
    user's data or a secret. See "Options" and "Scrubbing Sensitive Data" in Sentry's Python documentation.

    :raises SettingError: if the credential cannot be read.
    :raises sentry_sdk.utils.BadDsn: if it is not a DSN.
    """
    dsn = credential("sentry_dsn", None)
    if not dsn:
        return False
    import sentry_sdk

    sentry_sdk.init(
        dsn=dsn,
        release=release(),
        environment=setting("APP_ENV", "development"),
        # Personal data stays out by default; naming send_default_pii is deprecated since sentry-sdk 2.75.
        max_request_body_size="never",
        include_local_variables=False,
        # One message a minute from every worker, to say that all is well: readiness and metrics say so
        # already.
        auto_session_tracking=False,
        before_send=_finish,
    )
    return True


def _finish(event: Any, hint: dict[str, Any]) -> Any:
    request_id = current_request_id()
    if request_id:
        event.setdefault("tags", {})["request_id"] = request_id
    # Reset links and signed addresses carry their secret here, under any name.
    event.get("request", {}).pop("query_string", None)
    return event
