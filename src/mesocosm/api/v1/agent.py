"""The messages of the package mesos.v1.agent: an agent's operator API."""

from mesocosm.api.protos.agent_pb2 import *
