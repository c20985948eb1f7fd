"""The sandboxes of containers: shown among the files to those who may see them, and removed when they are old."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from mesocosm.agent import ownership
from mesocosm.agent.authorization import Action, Authorizer
from mesocosm.agent.files import Files
from mesocosm.agent.flags import AgentFlags
from mesocosm.agent.gc import GarbageCollector
from mesocosm.container import RUNTIME_SEPARATOR, ContainerID
from mesocosm.containerizer.base import Containerizer
from mesocosm.errors import ContainerError


class Sandboxes:
    """Those of the containers of one containerizer, and what an earlier boot of the machine has left of others."""

    def __init__(
        self,
        flags: AgentFlags,
        containerizer: Containerizer,
        work_dir: Path,
        disk_watch_interval: float,
        authorizer: Authorizer,
    ) -> None:
        """Raises FlagError."""
        self.files = Files()
        self.gc = GarbageCollector(
            flags.gc_delay, flags.gc_disk_headroom, disk_watch_interval, work_dir, self._collected
        )
        self._are_collected = flags.gc_non_executor_container_sandboxes
        self._containerizer = containerizer
        self._root = work_dir / RUNTIME_SEPARATOR
        self._authorizer = authorizer
        self._users: dict[ContainerID, str | None] = {}
        self._told: list[Callable[[Path], None]] = []

    def recover(self, terminated: Collection[ContainerID], running: Collection[ContainerID]) -> None:
        """Has those removed some time that no container uses."""
        if self._are_collected:
            for sandbox in (*map(self._of, terminated), *self._forgotten({*running, *terminated})):
                self._schedule(sandbox)

    def tell(self, listener: Callable[[Path], None]) -> None:
        """Has `listener` called with each path that was removed for its age."""
        self._told.append(listener)

    def user_of(self, container_id: ContainerID) -> str | None:
        """Whose the sandbox of a top-level container is, if that was said; None also for an unknown one."""
        return self._users.get(container_id)

    def claim(self, container_id: ContainerID) -> None:
        """Keeps a sandbox for a launch, which a container of that name may have had before the machine was booted."""
        self.gc.unschedule(self._of(container_id))

    def show(self, container_id: ContainerID, user: str | None) -> None:
        """Shows the sandbox of the `user` among the files. That of a nested container is in its parent's."""
        if container_id.parent is not None:
            return

        def may_see(principal: str | None) -> bool:
            return ownership.allows(self._authorizer, principal, Action.ACCESS_SANDBOXES, user)

        self._users[container_id] = user
        sandbox = self._of(container_id)
        for path in (str(sandbox), f"/containers/{container_id}"):
            self.files.attach(path, sandbox, may_see)

    async def follow(self, container_id: ContainerID) -> None:
        """Has the sandbox removed some time after the container's end, for which it waits, if the flag asks for it."""
        if not self._are_collected:
            return
        try:
            await self._containerizer.wait(container_id)
        except ContainerError:
            return  # The agent ends, or it could not be taken apart.
        self._schedule(self._of(container_id))

    async def remove(self, container_id: ContainerID) -> None:
        """Removes the sandbox of a container that has ended, and forgets that. Raises ContainerError, OSError."""
        await self._containerizer.remove(container_id)
        sandbox = self._of(container_id)
        self.gc.unschedule(sandbox)
        if container_id.parent is None:
            self._users.pop(container_id, None)
            self.files.detach(str(sandbox))
            self.files.detach(f"/containers/{container_id}")

    def close(self) -> None:
        """Removes no more."""
        self.gc.close()

    def _of(self, container_id: ContainerID) -> Path:
        return self._containerizer.sandbox(container_id)

    def _forgotten(self, known: Collection[ContainerID]) -> Iterator[Path]:
        """Sandboxes of which there is nothing else: a boot of the machine ends what is in the runtime directory."""
        if self._root.exists():
            yield from set(self._root.iterdir()) - set(map(self._of, known))

    def _schedule(self, sandbox: Path) -> None:
        if sandbox.exists():
            self.gc.schedule(sandbox, sandbox.stat().st_mtime)

    async def _collected(self, sandbox: Path) -> None:
        """Forgets the container whose sandbox was removed for its age."""
        for listener in self._told:
            listener(sandbox)
        for container_id in self._containerizer.terminated():
            if self._of(container_id) == sandbox:
                await self.remove(container_id)
                return
