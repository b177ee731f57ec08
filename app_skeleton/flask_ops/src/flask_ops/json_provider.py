"""Write an app's JSON by orjson, as Flask's own provider would, in a fraction of its time.

``app.json = OrjsonProvider(app)``. What orjson writes in another way than Flask (dates, dataclasses), or
not at all (integers of more than 64 bits, named tuples, keys of any kind, half a character), is Flask's to
write. What differs: text outside ASCII stands as UTF-8 rather than escaped, and a float that is no number is
null, which clients can read, rather than NaN. JSON that comes in is read by Python's own reader: orjson turns
large integers into floats.
"""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response
from flask.json.provider import DefaultJSONProvider

_PLAIN = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_PLAIN |= orjson.OPT_PASSTHROUGH_SUBCLASS


class OrjsonProvider(DefaultJSONProvider):
    """Serialise by orjson (``flask_ops[orjson]``)."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Return an object as JSON.

        :param obj: what to serialise.
        :param kwargs: arguments of :func:`json.dumps`; with any, that writes.
        """
        text = None if kwargs else self._write(obj)
        return super().dumps(obj, **kwargs) if text is None else text.decode()

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a response, as ``jsonify`` does.

        :param args: one object, or several that become a list.
        :param kwargs: members of an object.
        """
        indented = self.compact is False or (self.compact is None and self._app.debug)
        text = None if indented else self._write(self._prepare_response_obj(args, kwargs))
        if text is None:
            return super().response(*args, **kwargs)
        return self._app.response_class(text + b"\n", mimetype=self.mimetype)

    def _write(self, obj: Any) -> bytes | None:
        """Return an object as JSON, None if orjson cannot write it as Flask would."""
        try:
            return orjson.dumps(
                obj, self.default, _PLAIN | orjson.OPT_SORT_KEYS if self.sort_keys else _PLAIN
            )
        except TypeError:  # orjson.JSONEncodeError is one
            return None
