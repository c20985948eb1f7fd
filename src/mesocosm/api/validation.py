"""What a call of the agent's API has to be, and why one is not, in the words of Mesos (`slave/validation.cpp`)."""

from __future__ import annotations

from mesocosm.api import v1
from mesocosm.api.resources import is_reserved, validate_gpus, validate_resources
from mesocosm.api.v1.agent import Call, ProcessIO

_NAME_MAXIMUM = 255
"""NAME_MAX of limits.h."""
_CONTAINER_ID_MAXIMUM = 242

_OPTIONAL = frozenset({"get_containers", "prune_images"})
"""The parameters that a call need not have."""
_NESTED = frozenset(
    {
        "launch_nested_container",
        "wait_nested_container",
        "kill_nested_container",
        "remove_nested_container",
        "launch_nested_container_session",
    }
)
_TOO_DEEP = "containers nested at the second level or greater cannot"
_VOLUMES = {"CSI_VOLUME": "CSI"}
"""What Mesos calls a type of volumes, if not by its name."""


def validate(call: Call) -> str | None:
    """The reason why `call` is not valid, which Mesos answers after "Failed to validate agent::Call: "; None: it is."""
    if not call.IsInitialized():
        return f"Not initialized: {', '.join(call.FindInitializationErrors())}"  # type: ignore[attr-defined]
    if not call.HasField("type"):
        return "Expecting 'type' to be present"
    name = Call.Type.Name(call.type).lower()
    if name not in call.DESCRIPTOR.fields_by_name:
        return None
    if not call.HasField(name):
        return None if name in _OPTIONAL else f"Expecting '{name}' to be present"
    if name == "attach_container_input":
        return _validate_input(call.attach_container_input)
    parameters = getattr(call, name)
    if name in ("add_resource_provider_config", "update_resource_provider_config"):
        return f"Expecting '{name}.info.id' to be unset" if parameters.info.HasField("id") else None
    if "container_id" not in parameters.DESCRIPTOR.fields_by_name:
        return None
    if reason := validate_container_id(parameters.container_id):
        return f"'{name}.container_id' is invalid: {reason}"
    if name in _NESTED and not parameters.container_id.HasField("parent"):
        return f"Expecting '{name}.container_id.parent' to be present"
    return _validate_launch(name, parameters)


def validate_container_id(container_id: v1.ContainerID) -> str | None:
    """What is wrong with a container's name, or those of the containers it is nested in; None: nothing."""
    value = container_id.value
    if reason := validate_id(value):
        return reason
    if len(value.encode()) > _CONTAINER_ID_MAXIMUM:
        return f"'ContainerID.value' {value!r} exceeds the maximum length ({_CONTAINER_ID_MAXIMUM})"
    if "." in value or " " in value:
        return f"'ContainerID.value' {value!r} contains invalid characters"
    if container_id.HasField("parent") and (reason := validate_container_id(container_id.parent)):
        return f"'ContainerID.parent' is invalid: {reason}"
    return None


def validate_id(value: str) -> str | None:
    """What is wrong with any name that becomes a directory; None: nothing."""
    if not value:
        return "ID must not be empty"
    if len(value.encode()) > _NAME_MAXIMUM:
        return f"ID must not be greater than {_NAME_MAXIMUM} characters"
    if value in (".", ".."):
        return f"'{value}' is disallowed"
    if any(character < " " or character in "\x7f/\\" for character in value):
        return f"{value!r} contains invalid characters"
    return None


def _validate_input(call: Call.AttachContainerInput) -> str | None:
    if not call.HasField("type"):
        return "Expecting 'attach_container_input.type' to be present"
    if call.type == Call.AttachContainerInput.UNKNOWN:
        return "'attach_container_input.type' is unknown"
    if call.type == Call.AttachContainerInput.CONTAINER_ID and (reason := validate_container_id(call.container_id)):
        return f"'attach_container_input.container_id' is invalid: {reason}"
    return None


def validate_typed(call: Call) -> str | None:
    """What is wrong with a call that follows the first of ATTACH_CONTAINER_INPUT; None: nothing."""
    asked = call.attach_container_input
    if call.type != Call.ATTACH_CONTAINER_INPUT or asked.type != Call.AttachContainerInput.PROCESS_IO:
        kind = Call.AttachContainerInput.Type.Name(asked.type)
        return f"Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: '{kind}'"
    if not asked.HasField("process_io"):
        return "Expecting 'attach_container_input.process_io' to be present"
    message = asked.process_io
    if not message.HasField("type"):
        return "Expecting 'process_io.type' to be present"
    if message.type == ProcessIO.CONTROL:
        return _validate_control(message)
    return _validate_data(message) if message.type == ProcessIO.DATA else "'process_io.type' is unknown"


def _validate_control(message: ProcessIO) -> str | None:
    if not message.HasField("control"):
        return "Expecting 'process_io.control' to be present"
    control = message.control
    if not control.HasField("type"):
        return "Expecting 'process_io.control.type' to be present"
    if control.type == ProcessIO.Control.TTY_INFO:
        if not control.HasField("tty_info"):
            return "Expecting 'process_io.control.tty_info' to be present"
        return None if control.tty_info.HasField("window_size") else "Expecting 'tty_info.window_size' to be present"
    if control.type == ProcessIO.Control.HEARTBEAT:
        return None if control.HasField("heartbeat") else "Expecting 'process_io.control.heartbeat' to be present"
    return "'process_io.control.type' is unknown"


def _validate_data(message: ProcessIO) -> str | None:
    if not message.HasField("data"):
        return "Expecting 'process_io.data' to be present"
    if not message.data.HasField("type"):
        return "Expecting 'process_io.data.type' to be present"
    if message.data.type != ProcessIO.Data.STDIN:
        return "Expecting 'process_io.data.type' to be 'STDIN'"
    return None if message.data.HasField("data") else "Expecting 'process_io.data.data' to be present"


# Launches.


def _validate_launch(name: str, parameters: object) -> str | None:
    if isinstance(parameters, Call.LaunchContainer):
        return _validate_launch_container(parameters)
    if isinstance(parameters, Call.LaunchNestedContainer):
        return _validate_asked(name, parameters) or _validate_nested(name, parameters)
    if isinstance(parameters, Call.LaunchNestedContainerSession):
        return _validate_asked(name, parameters) or _validate_session(name, parameters)
    return None


def _validate_asked(
    name: str, launch: Call.LaunchContainer | Call.LaunchNestedContainer | Call.LaunchNestedContainerSession
) -> str | None:
    if reason := validate_command(launch.command):
        return f"'{name}.command' is invalid: {reason}"
    if launch.HasField("container") and (reason := validate_container(launch.container)):
        return f"'{name}.container' is invalid: {reason}"
    return None


def _validate_nested(name: str, launch: Call.LaunchNestedContainer) -> str | None:
    if not launch.container.linux_info.share_cgroups and _is_twice_nested(launch.container_id):
        return f"'{name}' is invalid: {_TOO_DEEP} set 'share_cgroups' to 'false'"
    return None


def _validate_session(name: str, launch: Call.LaunchNestedContainerSession) -> str | None:
    if launch.container.linux_info.share_cgroups:
        return None
    return (
        f"'{name}.container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false' for nested container"
        " sessions"
    )


def _validate_launch_container(launch: Call.LaunchContainer) -> str | None:
    if reason := validate_resources(launch.resources):
        return f"Invalid resources: {reason}"
    if reason := validate_gpus(launch.resources):
        return f"Invalid GPU resources: {reason}"
    is_nested = launch.container_id.HasField("parent")
    return (
        (None if is_nested else _validate_standalone(launch))
        or _validate_asked("launch_container", launch)
        or (_validate_twice_nested(launch) if _is_twice_nested(launch.container_id) else None)
        or (None if is_nested else _validate_alone(launch.container.linux_info))
    )


def _validate_standalone(launch: Call.LaunchContainer) -> str | None:
    """Nobody but whoever launches it counts what a standalone container takes, so it cannot take what is a role's."""
    for resource in launch.resources:
        if is_reserved(resource):
            return "'launch_container.resources' must be unreserved"
        if resource.disk.HasField("persistence"):
            return "'launch_container.resources' may not use persistent volumes"
        if resource.HasField("revocable"):
            return "'launch_container.resources' must be non-revocable"
    return None


def _validate_twice_nested(launch: Call.LaunchContainer) -> str | None:
    """Containers that deep are in the cgroups of their parent."""
    if launch.resources:
        return f"'launch_container' is invalid: {_TOO_DEEP} specify resources"
    if launch.limits:
        return f"'launch_container' is invalid: {_TOO_DEEP} specify resource limits"
    if not launch.container.linux_info.share_cgroups:
        return f"'launch_container' is invalid: {_TOO_DEEP} set 'share_cgroups' to 'false'"
    return None


def _validate_alone(linux_info: v1.LinuxInfo) -> str | None:
    if linux_info.HasField("share_cgroups") and linux_info.share_cgroups:
        return "'launch_container' is invalid: containers without a parent cannot set 'share_cgroups' to 'true'"
    return None


def _is_twice_nested(container_id: v1.ContainerID) -> bool:
    return container_id.parent.HasField("parent")


# What is launched.


def validate_command(command: v1.CommandInfo) -> str | None:
    """What is wrong with the environment of a command; None: nothing."""
    for variable in command.environment.variables:
        if reason := _validate_variable(variable):
            return reason
    return None


def _validate_variable(variable: v1.Environment.Variable) -> str | None:
    if variable.type == v1.Environment.Variable.UNKNOWN:
        return "Environment variable of type 'UNKNOWN' is not allowed"
    what = f"Environment variable {variable.name!r}"
    wanted, other = ("value", "secret") if variable.type == v1.Environment.Variable.VALUE else ("secret", "value")
    kind = wanted.upper()
    if not variable.HasField(wanted):
        return f"{what} of type '{kind}' must have a {wanted} set"
    if variable.HasField(other):
        return f"{what} of type '{kind}' must not have a {other} set"
    if reason := validate_secret(variable.secret):
        return f"{what} specifies an invalid secret: {reason}"
    if b"\0" in variable.secret.value.data:
        return f"{what} specifies a secret containing null bytes, which is not allowed in the environment"
    return None


def validate_secret(secret: v1.Secret) -> str | None:
    """What is wrong with a secret; None: nothing."""
    if secret.type == v1.Secret.REFERENCE:
        if not secret.HasField("reference"):
            return "Secret of type REFERENCE must have the 'reference' field set"
        if secret.HasField("value"):
            return f"Secret {secret.reference.name!r} of type REFERENCE must not have the 'value' field set"
    if secret.type == v1.Secret.VALUE:
        if not secret.HasField("value"):
            return "Secret of type VALUE must have the 'value' field set"
        if secret.HasField("reference"):
            return "Secret of type VALUE must not have the 'reference' field set"
    return None


def validate_container(container: v1.ContainerInfo) -> str | None:
    """What is wrong with what is asked of a container; None: nothing."""
    for volume in container.volumes:
        if reason := validate_volume(volume):
            return f"Invalid volume: {reason}"
    if container.type == v1.ContainerInfo.DOCKER:
        if not container.HasField("docker"):
            return "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
        if any(parameter.key == "name" for parameter in container.docker.parameters):
            return "Parameter in DockerInfo must not be 'name'"
    return None


def is_of_docker(task: v1.TaskInfo) -> bool:
    """Whether it asks for a container of the type DOCKER, which is also that of a container which says none."""
    return task.HasField("container") and task.container.type == v1.ContainerInfo.DOCKER


def validate_volume(volume: v1.Volume) -> str | None:
    """What is wrong with a volume; None: nothing."""
    if sum(map(volume.HasField, ("host_path", "image", "source"))) != 1:
        return "Only one of them should be set: 'host_path', 'image' and 'source'"
    if not volume.HasField("source"):
        return None
    kind = v1.Volume.Source.Type.Name(volume.source.type)
    if kind == "UNKNOWN":
        return "'source.type' is unknown"
    if not volume.source.HasField(kind.lower()):
        return f"'source.{kind.lower()}' is not set for {_VOLUMES.get(kind, kind)} volume"
    if kind == "CSI_VOLUME" and not volume.source.csi_volume.HasField("static_provisioning"):
        return "'source.csi_volume.static_provisioning' is not set for CSI volume"
    return None
