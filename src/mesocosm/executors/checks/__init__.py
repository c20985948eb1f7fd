"""Checks and health checks of tasks: a command, a request by HTTP, or a connection by TCP (Mesos: src/checks/)."""
