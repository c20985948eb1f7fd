"""The networks of containers."""

from __future__ import annotations

from mesocosm.agent.flags.flag import Flag, of_refused, own
from mesocosm.agent.flags.kinds import BOOLEAN, DURATION, NAME, OBJECT, PATH, RANGES, SIZE, TEXT, duration, integer

_CNI, _PORTS = "network/cni", "network/ports"

NETWORKS = (
    own("network_cni_plugins_dir", TEXT, _CNI),
    own("network_cni_config_dir", PATH, _CNI),
    own("network_cni_root_dir_persist", BOOLEAN, _CNI),
    own("network_cni_metrics", BOOLEAN, _CNI),
    own("default_container_dns", OBJECT, f"{_CNI}, docker containerizer"),
    own("container_ports_watch_interval", duration(zero=False), _PORTS),
    own("enforce_container_ports", BOOLEAN, _PORTS),
    own("check_agent_port_range_only", BOOLEAN, _PORTS),
    own("container_ports_isolated_range", RANGES, _PORTS),
)


# Mesos only has these where it was built with `network/port_mapping`.
PORT_MAPPING = of_refused(
    "network/port_mapping",
    Flag("ephemeral_ports_per_container", integer(1, 65535), "Ephemeral ports of each container.", default="1024"),
    Flag("eth0_name", NAME, "The public interface. Default: that of the default route."),
    Flag("lo_name", NAME, "The loopback interface. Default: found by itself."),
    Flag("egress_rate_limit_per_container", SIZE, "Bytes a second that a container may send."),
    Flag("egress_rate_per_cpu", TEXT, "Bytes a second that a container may send for each CPU, or `auto`."),
    Flag("minimum_egress_rate_limit", SIZE, "The least limit of sending, in bytes a second."),
    Flag("maximum_egress_rate_limit", SIZE, "The greatest limit of sending, in bytes a second."),
    Flag("egress_ceil_limit", SIZE, "Bytes a second at which bursts are sent."),
    Flag("egress_burst", SIZE, "Bytes that may be sent in a burst."),
    Flag("egress_unique_flow_per_container", BOOLEAN, "Queue each container's packets by itself.", default="false"),
    Flag("egress_flow_classifier_parent", TEXT, "Where in the hierarchy of queues these are.", default="root"),
    Flag("ingress_rate_limit_per_container", SIZE, "Bytes a second that a container may receive."),
    Flag("ingress_rate_per_cpu", TEXT, "Bytes a second that a container may receive for each CPU, or `auto`."),
    Flag("minimum_ingress_rate_limit", SIZE, "The least limit of receiving, in bytes a second."),
    Flag("maximum_ingress_rate_limit", SIZE, "The greatest limit of receiving, in bytes a second."),
    Flag("ingress_ceil_limit", SIZE, "Bytes a second at which bursts are received."),
    Flag("ingress_burst", SIZE, "Bytes that may be received in a burst."),
    Flag(
        "ingress_isolate_existing_containers",
        BOOLEAN,
        "Limit the receiving of recovered containers, too.",
        default="true",
    ),
    Flag("network_link_speed", SIZE, "Bytes a second of the link, for `auto`. Default: what it reports."),
    Flag(
        "network_enable_socket_statistics_summary",
        BOOLEAN,
        "Report sums over the sockets of each container.",
        default="false",
    ),
    Flag(
        "network_enable_socket_statistics_details",
        BOOLEAN,
        "Report round trip times and the like of each container.",
        default="false",
    ),
    Flag("network_enable_snmp_statistics", BOOLEAN, "Report the counters of SNMP of each container.", default="false"),
    Flag(
        "network_enable_rate_statistics", BOOLEAN, "Report percentiles of the rates of each container.", default="false"
    ),
    Flag("network_rate_statistics_window", DURATION, "The time that percentiles of rates are of."),
    Flag("network_rate_statistics_interval", DURATION, "How often rates are measured."),
)
