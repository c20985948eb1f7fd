"""The versions of Mesocosm, and of the Mesos whose interfaces it has."""

__version__ = "0.1.0.dev0"
MESOS_VERSION = "1.12.0"
