"""The agent's HTTP interface: Mesos's v1 operator API and its older endpoints."""
