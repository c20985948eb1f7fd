"""Runs the kernel tests on a second kernel: Debian's own, in a virtual machine that shows this machine's files.

It has what many machines lack: cgroup v2 alone and with every controller, XFS project quotas, and mount propagation
as an init system sets it up. `python -m tests.vm` is the command.
"""


class VirtualMachineError(Exception):
    """The virtual machine could not be made, did not boot, hung, or ended without results."""
