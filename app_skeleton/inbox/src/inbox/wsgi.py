"""The app as gunicorn serves it: ``APP_WSGI=inbox.wsgi:app``."""

from . import create_app

app = create_app()
