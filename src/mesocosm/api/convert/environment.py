"""The variables of a command, and secrets."""

from __future__ import annotations

from mesocosm.api import v1
from mesocosm.secrets import Hidden, Secret, SecretReference


def environment(message: v1.Environment) -> dict[str, str]:
    """The variables that are no secrets; of those with the same name, the last."""
    last = {variable.name: variable for variable in message.variables}.values()
    return {variable.name: variable.value for variable in last if variable.type == v1.Environment.Variable.VALUE}


def secret_environment(message: v1.Environment) -> dict[str, Secret]:
    """The variables that are secrets, in the same way."""
    last = {variable.name: variable for variable in message.variables}.values()
    return {
        variable.name: secret(variable.secret) for variable in last if variable.type == v1.Environment.Variable.SECRET
    }


def secret(message: v1.Secret) -> Secret:
    """A secret, which is valid."""
    if message.type == v1.Secret.REFERENCE:
        reference = message.reference
        return Secret(reference=SecretReference(reference.name, reference.key if reference.HasField("key") else None))
    return Secret(Hidden(message.value.data))
