"""What containers write, for whoever wants to see it as it comes: of a container, or of a file that is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mesocosm.agent.files import Files
from mesocosm.container import ContainerID, sandbox_parts
from mesocosm.containerizer.base import Containerizer
from mesocosm.errors import MesocosmError, UnknownContainerError
from mesocosm.switchboard.chunks import Encode, SharedFiles
from mesocosm.switchboard.follow import Beginning, Follow, follow


class Outputs:
    """Follows the files of the containers of one containerizer."""

    def __init__(self, containerizer: Containerizer, files: Files) -> None:
        self._containerizer = containerizer
        self._files = files
        self._shared = SharedFiles(files.threads)

    async def attach(self, container_id: ContainerID, encoders: Mapping[str, Encode]) -> Follow:
        """What a running container writes from now on, to the files of these names, until it has ended.

        Raises UnknownContainerError, and FilesError where there is no such file.
        """
        config = self._containerizer.config(container_id)
        if config is None:
            raise UnknownContainerError(f"there is no container {container_id}, or it has ended")
        sandbox = config.directory or self._containerizer.sandbox(container_id)
        directory = await self._files.open_real(*sandbox_parts(container_id, sandbox))
        beginnings = [Beginning(name, encode) for name, encode in encoders.items()]
        return await self._follow(directory, beginnings, container_id)

    async def follow(
        self,
        path: str,
        offset: int | None,
        principal: str | None,
        until: ContainerID | None = None,
        *,
        oldest: bool = False,
    ) -> Follow:
        """What comes into a file that is shown, from `offset` on (None: from its present end), or from the `oldest` on.

        It goes on until a container has ended, if one is given. Raises FilesError.
        """
        directory, name = await self._files.open_parent(path, principal)
        return await self._follow(directory, [Beginning(name, bytes, offset, oldest)], until)

    def close(self) -> None:
        """Tells of nothing more."""
        self._shared.close()

    async def _follow(self, directory: int, beginnings: list[Beginning], until: ContainerID | None) -> Follow:
        ended = None if until is None else asyncio.ensure_future(self._end(until))
        try:
            return await self._files.shown(follow(self._shared, directory, beginnings, ended))
        except BaseException:
            if ended is not None:
                ended.cancel()
            raise

    async def _end(self, container_id: ContainerID) -> None:
        """Returns when the container has ended, or nobody knows when."""
        try:
            await self._containerizer.wait(container_id)
        except (MesocosmError, OSError, ExceptionGroup):
            return  # It was forgotten already, could not be taken apart, or the agent ends.
