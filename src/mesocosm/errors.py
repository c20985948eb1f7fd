"""Errors that reach a user: each is one clear line, and says what to do where there is something to do."""

from __future__ import annotations

from collections.abc import Iterator


class MesocosmError(Exception):
    """A failure with a message for people.

    `message` says what was wrong and where; `hint`, when there is one, what to do about it. Of a command that could not
    be executed, `exit_status` is what a shell answers.
    """

    exit_status: int | None = None

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class FlagError(MesocosmError):
    """A flag or an option that cannot be honoured as given."""


class UnsupportedError(MesocosmError):
    """Something this host cannot do; `hint` says what would make it work."""


class ContainerError(MesocosmError):
    """A container could not be launched, or an operation on it failed."""


class CommandError(ContainerError):
    """The container stood, but its command could not be executed.

    `exit_status` is 127 when the command was not found, 126 when it cannot be executed.
    """

    exit_status: int

    def __init__(self, message: str, exit_status: int, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.exit_status = exit_status


class MasterError(MesocosmError):
    """The agent cannot be part of its cluster: no master can be found, or the master refuses it."""


class UnknownContainerError(ContainerError):
    """No container of that id is known."""


class RecoveryError(MesocosmError):
    """State on disk that cannot be used: damaged, or written by a newer version."""


def leaves(error: Exception) -> Iterator[Exception]:
    """The errors that a group is made of, however deep; an error that is no group is one itself."""
    if isinstance(error, ExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error
