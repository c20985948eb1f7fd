"""Images, and volumes of them."""

from __future__ import annotations

from collections.abc import Iterable

from mesocosm.api import v1
from mesocosm.api.convert.environment import secret
from mesocosm.api.validation import validate_secret
from mesocosm.container import ImageRequest, ImageVolume, VolumeMode
from mesocosm.errors import ContainerError


def image_request(where: str, message: v1.Image) -> ImageRequest:
    """The image that a file system is to be made of. Raises ContainerError."""
    if message.type != v1.Image.DOCKER:
        raise ContainerError(f"{where}: there is no provider appc", "nobody makes Appc images; name one of Docker")
    if not message.docker.name:
        raise ContainerError(f"{where}: 'docker.name' is not set")
    if message.docker.HasField("credential"):
        raise ContainerError(f"{where}.docker.credential is not supported", "give docker.config")
    credentials = None
    if message.docker.HasField("config"):
        if (reason := validate_secret(message.docker.config)) is not None:
            raise ContainerError(f"{where}.docker.config: {reason}")
        credentials = secret(message.docker.config)
    return ImageRequest(message.docker.name, cached=message.cached, credentials=credentials)


def image_names(messages: Iterable[v1.Image]) -> list[str]:
    """The names of those that can be here."""
    return [message.docker.name for message in messages if message.type == v1.Image.DOCKER]


def image_volume(index: int, message: v1.Volume) -> ImageVolume:
    """The volume number `index` of a container, which is of an image. Raises ContainerError."""
    image = image_request(f"container.volumes[{index}].image", message.image)
    return ImageVolume(message.container_path, image, VolumeMode[v1.Volume.Mode.Name(message.mode)])
