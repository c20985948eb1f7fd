"""The flags of the agent: those of Mesos, and a few of its own.

`table` says what there is, `load` reads a command line and an environment, and `help_text` is what people read.
"""

from mesocosm.agent.flags.given import asked
from mesocosm.agent.flags.help import help_text
from mesocosm.agent.flags.loading import Loaded, load
from mesocosm.agent.flags.values import AgentFlags

__all__ = ["AgentFlags", "Loaded", "asked", "help_text", "load"]
