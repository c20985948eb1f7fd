"""What a call asks to launch."""

from __future__ import annotations

from mesocosm.api import v1
from mesocosm.api.convert.docker import DEFAULT_DRIVER, docker_config
from mesocosm.api.convert.environment import environment, secret_environment
from mesocosm.api.convert.images import image_request, image_volume
from mesocosm.api.convert.linux import linux_info, rlimits
from mesocosm.api.convert.networks import network_info
from mesocosm.api.convert.resources import limits, persistent_volumes, resources
from mesocosm.api.convert.volumes import volume
from mesocosm.api.v1.agent import Call
from mesocosm.container import URI, CommandInfo, ContainerClass, ContainerConfig, TTYInfo
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError

Launch = Call.LaunchContainer | Call.LaunchNestedContainer | Call.LaunchNestedContainerSession

_ANY_CONTAINER = v1.ContainerInfo(type=v1.ContainerInfo.MESOS)
_SIDE_MAXIMUM = (1 << 16) - 1
"""Rows or columns of a terminal: `unsigned short` in `struct winsize` (ioctl_tty(2))."""


def container_config(
    launch: Launch, default: v1.ContainerInfo | None = None, *, switch_user: bool = True
) -> ContainerConfig:
    """What a call asks to launch; `default` is the ContainerInfo of a call that has none. Raises ContainerError.

    A session is a debug container. Without `switch_user`, the user that is asked for does not matter.
    """
    container = launch.container if launch.HasField("container") else default or _ANY_CONTAINER
    is_docker = container.type == v1.ContainerInfo.DOCKER
    is_session = isinstance(launch, Call.LaunchNestedContainerSession)
    amounts, bounds = (launch.resources, launch.limits) if isinstance(launch, Call.LaunchContainer) else ((), {})
    config = ContainerConfig(
        command_info(launch.command),
        user=(launch.command.user or None) if switch_user else None,
        environment=environment(launch.command.environment),
        secret_environment=secret_environment(launch.command.environment),
        volumes=tuple(
            volume(index, asked, DEFAULT_DRIVER if is_docker else None)
            for index, asked in enumerate(container.volumes)
            if not asked.HasField("image")
        ),
        persistent_volumes=persistent_volumes(amounts),
        resources=resources(amounts),
        limits=limits(bounds),
        container_class=ContainerClass.DEBUG if is_session else ContainerClass.DEFAULT,
        interactive=isinstance(launch, Call.LaunchContainer) and launch.interactive,
        network_infos=tuple(network_info(info) for info in container.network_infos if info.ListFields()),
        hostname=container.hostname if container.HasField("hostname") else None,
    )
    return docker_config(config, container) if is_docker else _mesos_config(config, container)


def _mesos_config(config: ContainerConfig, container: v1.ContainerInfo) -> ContainerConfig:
    """`config` with what only a container of the type MESOS can be asked for. Raises ContainerError."""
    if container == _ANY_CONTAINER:  # Most calls ask for none of that.
        return config
    if container.HasField("docker"):
        raise ContainerError("container.docker is not supported in a container of the type MESOS", "leave it out")
    return replace(
        config,
        image_volumes=tuple(
            image_volume(index, asked) for index, asked in enumerate(container.volumes) if asked.HasField("image")
        ),
        linux_info=linux_info(container.linux_info),
        tty_info=tty_info(container.tty_info) if container.HasField("tty_info") else None,
        rlimits=rlimits(container.rlimit_info),
        image=image_request("container.mesos.image", container.mesos.image)
        if container.mesos.HasField("image")
        else None,
    )


def command_info(message: v1.CommandInfo) -> CommandInfo:
    """What to run, without its environment and its user."""
    return CommandInfo(
        value=message.value if message.HasField("value") else None,
        arguments=tuple(message.arguments),
        shell=message.shell,
        uris=tuple(_uri(uri) for uri in message.uris),
    )


def _uri(message: v1.CommandInfo.URI) -> URI:
    return URI(
        message.value,
        executable=message.executable,
        extract=message.extract,
        cache=message.cache,
        output_file=message.output_file if message.HasField("output_file") else None,
    )


def tty_info(message: v1.TTYInfo) -> TTYInfo:
    """A terminal, of the usual size if none is said. Raises ContainerError for one that no kernel makes."""
    if not message.HasField("window_size"):
        return TTYInfo()
    size = message.window_size
    if max(size.rows, size.columns) > _SIDE_MAXIMUM:
        raise ContainerError(
            f"tty_info.window_size: no terminal has {size.rows} rows and {size.columns} columns",
            f"ask for at most {_SIDE_MAXIMUM}",
        )
    return TTYInfo(size.rows, size.columns)
