"""Make Celery's broker of files safe between processes: its own messages may be read half written."""

import time
import uuid
from pathlib import Path

from kombu.transport import filesystem
from kombu.utils.json import dumps


def put_whole(channel, queue, payload, **_):
    """Put a message into a queue under a name that nobody looks for until it is whole."""
    name = f"{time.monotonic_ns()}_{uuid.uuid4()}.{queue}.msg"
    draft = Path(channel.data_folder_out) / f"{name}.new"
    draft.write_text(dumps(payload))
    draft.rename(draft.with_suffix(""))


filesystem.Channel._put = put_whole
