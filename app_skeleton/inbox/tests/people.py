"""What the tests' users sign in with."""

import secrets

PASSWORD = secrets.token_urlsafe()
