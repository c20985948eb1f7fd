"""The messages of the package mesos.v1.executor: the API between an agent and its executors."""

from mesocosm.api.protos.executor_pb2 import *
