"""Headers of HTTP that Mesos has not, by which an agent and the commands of Mesocosm say more to one another."""

from __future__ import annotations

EXIT_STATUS = "Mesocosm-Exit-Status"
"""Of a container that was not launched as its command cannot be executed: what a shell's exit status would be."""
TRANSIENT = "Mesocosm-Transient"
"""`true` asks that nothing be kept of a session whose client goes away before its end."""
