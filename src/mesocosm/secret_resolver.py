"""Secret resolvers: what turns a secret that a container asks for into its bytes (`--secret_resolver`)."""

from __future__ import annotations

from mesocosm.container import ContainerID
from mesocosm.errors import ContainerError, FlagError, MesocosmError
from mesocosm.secrets import Secret

ENTRY_POINTS = "mesocosm.secret_resolvers"


class SecretResolver:
    """Knows secrets by their references. This one, the default, knows those that carry their value.

    Packages name theirs in the entry point group `mesocosm.secret_resolvers`. They are made without arguments, once
    for each isolator that needs one, and once for images. They run in the event loop: what blocks belongs into
    `asyncio.to_thread`.
    """

    async def resolve(self, secret: Secret) -> bytes:
        """The bytes of `secret`. What is raised fails the launch, and its text must not tell them."""
        if secret.value is None:
            raise ContainerError(
                "the default secret resolver cannot resolve references", "name another one by --secret_resolver"
            )
        return secret.value.reveal()


def create_resolver(name: str | None) -> SecretResolver:
    """The resolver of that name; None: the default. Raises FlagError if there is none, or it cannot be made."""
    if name is None:
        return SecretResolver()
    # Imported here: it takes longer than a launch.
    from mesocosm.plugins import find

    kind = find("secret_resolver", ENTRY_POINTS, name, SecretResolver)
    try:
        return kind()
    except Exception as error:
        raise FlagError(f"--secret_resolver: {name!r} cannot be made: {error}") from error


async def resolve(resolver: SecretResolver, container_id: ContainerID, what: str, secret: Secret) -> bytes:
    """The bytes of the `secret` that is meant by `what`. Raises ContainerError, which says why without telling them."""
    try:
        return await resolver.resolve(secret)
    except (MesocosmError, OSError) as error:
        raise ContainerError(f"{container_id}: the secret of {what} cannot be resolved: {error}") from None
    except Exception as error:  # noqa: BLE001 - whatever it says, it may quote what it looked at.
        kind = type(error).__name__
        raise ContainerError(f"{container_id}: the secret of {what} cannot be resolved: {kind}") from None
