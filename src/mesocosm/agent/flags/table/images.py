"""Images, volumes and disks, and the Docker containerizer."""

from __future__ import annotations

from mesocosm.agent.flags.flag import Flag, of_refused, own
from mesocosm.agent.flags.kinds import BOOLEAN, DURATION, GROUPS, NAME, NAMES, OBJECT, PATH, SIZE, TEXT, Kind, choice
from mesocosm.errors import FlagError
from mesocosm.flags import Flags


def _parse_providers(text: str) -> tuple[str, ...]:
    names = tuple(name.lower() for name in NAMES.parse(text))  # Mesos takes them in any case.
    if "appc" in names:
        raise FlagError("there is no provider appc: nobody has made Appc images since 2016", "write docker")
    for name in names:
        if name != "docker":
            raise FlagError(f"there is no provider {name!r}", "write docker")
    return names


def _parse_backend(text: str) -> str:
    if text == "aufs":
        raise FlagError("there is no backend aufs: no kernel of kernel.org has that file system", "write overlay")
    _BACKENDS.parse(text)
    return text


_BACKENDS = choice("bind", "copy", "overlay")
_BACKEND = Kind(_BACKENDS.label, _parse_backend)
_DOCKER = "docker containerizer"
_PROVIDERS = Kind("names", _parse_providers, ",".join, absent=())

IMAGES = (
    Flag("image_providers", _PROVIDERS, Flags.help("image_providers"), served_by="containerizer"),
    own("image_provisioner_backend", _BACKEND, "containerizer"),
    Flag(
        "image_gc_config",
        OBJECT,
        "When unused images are removed: an `ImageGcConfig` as JSON. Default: when the API is told to.",
        served_by="agent",
    ),
    *of_refused(
        "appc/runtime",
        Flag("appc_simple_discovery_uri_prefix", TEXT, "What URLs of Appc images begin with.", default="http://"),
        Flag("appc_store_dir", PATH, "Directory of Appc images.", default="/tmp/mesos/store/appc"),
    ),
    own("docker_registry", TEXT, "images"),
    Flag(
        "docker_store_dir",
        PATH,
        Flags.help("docker_store_dir"),
        default="/tmp/mesos/store/docker",
        served_by="images",
    ),
    own("docker_config", OBJECT, "images"),
    own("docker_ignore_runtime", BOOLEAN, "docker/runtime"),
)

DISK = (
    own("enforce_container_disk_quota", BOOLEAN, "disk/du, disk/xfs"),
    own("container_disk_watch_interval", DURATION, "disk/du, disk/xfs"),
    own("xfs_project_range", TEXT, "disk/xfs"),
    own("xfs_kill_containers", BOOLEAN, "disk/xfs"),
    own("xfs_quota_headroom", SIZE, "disk/xfs"),
    own("host_path_volume_force_creation", TEXT, "volume/host_path"),
    own("volume_gid_range", GROUPS, "volume/sandbox_path"),
    own("docker_volume_checkpoint_dir", PATH, "docker/volume"),
    own("docker_volume_chown", BOOLEAN, "docker/volume"),
    *of_refused(
        "volume/csi",
        Flag("csi_plugin_config_dir", PATH, "Directory of the configurations of CSI plugins."),
        Flag("disk_profile_adaptor", NAME, "What makes parameters for CSI plugins out of profiles of disks."),
    ),
)

DOCKER = (
    own("docker", TEXT, _DOCKER),
    own("docker_socket", TEXT, _DOCKER),
    own("docker_kill_orphans", BOOLEAN, _DOCKER),
    own("docker_mesos_image", TEXT, _DOCKER),
    own("docker_remove_delay", DURATION, _DOCKER),
    own("docker_stop_timeout", DURATION, _DOCKER),
)
