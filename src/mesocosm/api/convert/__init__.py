"""Between the messages of the wire and the values of the containerizer.

Messages are taken to be valid (`validation`). What they ask of a container and nothing in this version gives is refused
in one line that names the field. Left to the containerizer are fields of `linux_info` whose isolator exists, but may be
off: Mesos ignores those, with a warning.
"""

from mesocosm.api.convert.ids import container_id, container_id_message
from mesocosm.api.convert.images import image_names
from mesocosm.api.convert.launch import container_config
from mesocosm.api.convert.outcome import container_status, resource_statistics, termination
from mesocosm.api.convert.resources import disk_source, limits, persistent_volume, persistent_volumes, resources

__all__ = [
    "container_config",
    "container_id",
    "container_id_message",
    "container_status",
    "disk_source",
    "image_names",
    "limits",
    "persistent_volume",
    "persistent_volumes",
    "resource_statistics",
    "resources",
    "termination",
]
