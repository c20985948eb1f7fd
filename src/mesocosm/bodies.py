"""Bodies of HTTP, which come in as many parts as the network likes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


async def read_up_to(content: aiohttp.StreamReader, most: int) -> bytes:
    """All of a body, or its first `most` bytes. Raises aiohttp.ClientError if the connection breaks before."""
    try:
        return await content.readexactly(most)
    except asyncio.IncompleteReadError as error:
        return error.partial
