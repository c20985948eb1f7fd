"""What a program asks of an agent: where that is, and two ways to ask it.

`connection` waits for each answer and loads fast, for commands; `streaming` is for asyncio.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
"""An object of JSON, as the agent sends and gets it."""
