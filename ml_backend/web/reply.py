"""Answers as JSON, written by orjson: regions are lists of up to millions of numbers."""

from typing import Any

import orjson
from starlette.responses import JSONResponse


class Reply(JSONResponse):
    """An answer as JSON."""

    def render(self, content: Any) -> bytes:
        """Write `content` down."""
        return orjson.dumps(content)
