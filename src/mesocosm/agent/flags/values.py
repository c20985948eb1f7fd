"""What the agent itself reads of its flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFlags:
    """The flags that are the agent's, not the containerizer's, by their names; the table says what each one means.

    Sizes are bytes, durations are seconds, and None is a flag that was not set. Made by `load`, which has the defaults.
    """

    recover: Literal["reconnect", "cleanup"]
    strict: bool
    switch_user: bool
    systemd_enable_support: bool
    containerizers: tuple[str, ...]
    default_container_info: dict[str, Any] | None
    hooks: tuple[str, ...]

    agent_subsystems: tuple[str, ...]
    resources: str | None
    default_role: str
    attributes: str | None

    ip: str | None
    port: int
    ip6: str | None
    advertise_ip: str | None
    advertise_port: int | None
    hostname: str | None
    hostname_lookup: bool
    operator_socket: Path | None
    http_heartbeat_interval: float

    authenticate_http_readonly: bool
    authenticate_http_readwrite: bool
    http_credentials: Path | None
    authenticate_http_executors: bool
    jwt_secret_key: Path | None
    authorizer: Literal["local"]
    acls: dict[str, Any] | None

    quiet: bool
    logging_level: Literal["INFO", "WARNING", "ERROR"]
    log_dir: Path | None
    external_log_file: Path | None

    gc_delay: float
    gc_disk_headroom: float
    gc_non_executor_container_sandboxes: bool

    executor_environment_variables: dict[str, Any] | None
    executor_registration_timeout: float
    executor_reregistration_timeout: float
    executor_reregistration_retry_interval: float | None
    executor_shutdown_grace_period: float
    http_command_executor: bool
    http_executor_domain_sockets: bool
    domain_socket_location: str | None
    max_completed_executors_per_framework: int
    recovery_timeout: float

    master: str | None
    zk_session_timeout: float
    registration_backoff_factor: float
    reconfiguration_policy: Literal["equal", "additive"]
    credential: Path | None
    authenticatee: Literal["crammd5"]
    authentication_backoff_factor: float
    authentication_timeout_min: float
    authentication_timeout_max: float
    domain: dict[str, Any] | None

    image_gc_config: dict[str, Any] | None

    fetcher_cache_dir: Path
    fetcher_cache_size: int
    fetcher_stall_timeout: float

    container_logger: str | None
    logrotate_max_stdout_size: int
    logrotate_max_stderr_size: int
    logrotate_stdout_count: int
    logrotate_stderr_count: int
