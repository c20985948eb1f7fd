"""What became of a container: how it ended, what it is, and what it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from mesocosm.api import v1
from mesocosm.api.convert.ids import container_id_message
from mesocosm.api.convert.networks import network_info_message
from mesocosm.api.convert.resources import MB
from mesocosm.api.v1.agent import Response
from mesocosm.container import ContainerStatus, Termination
from mesocosm.statistics import BlkioStatistics, DiskStatistics, PerfStatistics, ResourceStatistics


def termination(value: Termination) -> Response.WaitContainer:
    """How a container ended. One that did so for a reason of the agent's has failed (TASK_FAILED)."""
    message = Response.WaitContainer(exit_status=value.status)
    if value.message is not None:
        message.message = value.message.encode(errors="backslashreplace").decode()
    if value.reason is None:
        return message
    # That of an isolator from elsewhere may have another name.
    reason = value.reason if value.reason in _REASONS else "REASON_CONTAINER_LIMITATION"
    message.MergeFrom(Response.WaitContainer(state=v1.TASK_FAILED, reason=reason))
    if value.limited_resource is not None:
        message.limitation.resources.append(_limited(value.limited_resource, value))
    return message


_REASONS = frozenset(v1.TaskStatus.DESCRIPTOR.enum_types_by_name["Reason"].values_by_name)


def _limited(name: str, value: Termination) -> v1.Resource:
    """The resource that a container ran out of, and how much of it was used: 0 if nobody knows, as in Mesos."""
    if value.limited_ranges:
        ranges = [v1.Value.Range(begin=begin, end=end) for begin, end in value.limited_ranges]
        return v1.Resource(name=name, type=v1.Value.RANGES, ranges=v1.Value.Ranges(range=ranges))
    used = value.limited_amount
    if used is None and name == "mem" and value.usage is not None:
        used = value.usage.mem_maximum_bytes
    amount = 0.0 if used is None else round(used / MB, 3)
    return v1.Resource(name=name, type=v1.Value.SCALAR, scalar=v1.Value.Scalar(value=amount))


def container_status(value: ContainerStatus) -> v1.ContainerStatus:
    """What a running container is."""
    identity = None if value.container_id is None else container_id_message(value.container_id)
    networks = map(network_info_message, value.network_infos or ())
    message = v1.ContainerStatus(container_id=identity, executor_pid=value.executor_pid, network_infos=networks)
    if value.net_cls_classid is not None:
        message.cgroup_info.net_cls.classid = value.net_cls_classid
    return message


def resource_statistics(value: ResourceStatistics) -> v1.ResourceStatistics:
    """What a container uses, without what Mesos has no field for; at the time 0 if that is not known."""
    known = {name: amount for name in _STATISTICS if (amount := getattr(value, name)) is not None}
    disks = map(_disk_statistics, value.disk_statistics or ())
    message = v1.ResourceStatistics(**{"timestamp": 0.0, **known, "disk_statistics": disks})
    if value.blkio_statistics is not None:
        message.blkio_statistics.throttling.extend(map(_blkio_statistics, value.blkio_statistics))
    if value.perf is not None:
        message.perf.CopyFrom(_perf_statistics(value.perf))
    return message


def _perf_statistics(value: PerfStatistics) -> v1.PerfStatistics:
    message = v1.PerfStatistics(timestamp=value.timestamp, duration=value.duration)
    for name, count in value.counts.items():
        setattr(message, name, count)
    return message


def _blkio_statistics(value: BlkioStatistics) -> v1.CgroupInfo.Blkio.Throttling.Statistics:
    message = v1.CgroupInfo.Blkio.Throttling.Statistics(
        io_serviced=_blkio_values(value.io_serviced), io_service_bytes=_blkio_values(value.io_service_bytes)
    )
    if value.device is not None:
        message.device.major_number, message.device.minor_number = value.device
    return message


def _blkio_values(amounts: Mapping[str, int]) -> list[v1.CgroupInfo.Blkio.Value]:
    known = v1.CgroupInfo.Blkio.Operation.keys()
    return [v1.CgroupInfo.Blkio.Value(op=name, value=amount) for name, amount in amounts.items() if name in known]


def _disk_statistics(value: DiskStatistics) -> v1.DiskStatistics:
    message = v1.DiskStatistics(limit_bytes=value.limit_bytes, used_bytes=value.used_bytes)
    if value.id is not None:
        message.persistence.id = value.id
        if value.principal is not None:
            message.persistence.principal = value.principal
    return message


_STATISTICS = tuple(
    field.name
    for field in fields(ResourceStatistics)
    if (known := v1.ResourceStatistics.DESCRIPTOR.fields_by_name.get(field.name)) and known.message_type is None
)
