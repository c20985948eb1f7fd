"""All messages of the package mesos.v1, whichever file they are in."""

from mesocosm.api.protos.cluster_pb2 import *
from mesocosm.api.protos.common_pb2 import *
from mesocosm.api.protos.container_pb2 import *
from mesocosm.api.protos.ids_pb2 import *
from mesocosm.api.protos.resource_pb2 import *
from mesocosm.api.protos.statistics_pb2 import *
from mesocosm.api.protos.task_pb2 import *
from mesocosm.api.protos.volume_pb2 import *
