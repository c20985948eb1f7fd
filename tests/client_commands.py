"""The commands that ask an agent, as processes, and what they show on terminals."""

from __future__ import annotations

import os
import subprocess
import time

import pexpect
import pyte

from tests.agent_process import AgentProcess
from tests.command_line import MESOCOSM, TIMEOUT
from tests.loaded import run


class Client:
    """Command lines for one agent."""

    def __init__(self, agent: AgentProcess, *options: str, scheme: str = "http") -> None:
        self.environment = os.environ | {"MESOCOSM_AGENT": f"{scheme}://{agent.host}:{agent.port}", "TERM": "xterm"}
        self.options = options

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one to its end."""
        return run([*MESOCOSM, *arguments, *self.options], text=True, env=self.environment)

    def pipe(self, data: bytes, *arguments: str) -> bytes:
        """What one makes of its standard input."""
        done = run([*MESOCOSM, *arguments, *self.options], input=data, stderr=None, env=self.environment)
        done.check_returncode()
        output: bytes = done.stdout
        return output

    def lines(self, *arguments: str) -> list[str]:
        """What one prints that succeeds."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.splitlines()

    def refused(self, *arguments: str) -> str:
        """The line that one prints which does not."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (125, ""), done
        assert done.stderr.startswith("mesocosm: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("mesocosm: ").rstrip("\n")

    def spawn(self, *arguments: str, columns: int = 80, rows: int = 24, **environment: str) -> pexpect.spawn:
        """Starts one in a terminal."""
        program, *rest = [*MESOCOSM, *arguments, *self.options]
        return pexpect.spawn(
            program,
            rest,
            timeout=TIMEOUT,
            encoding="utf-8",
            dimensions=(rows, columns),
            env=self.environment | environment,
        )

    def seen(self, *arguments: str, columns: int = 80, **environment: str) -> list[str]:
        """What somebody at a terminal sees of one."""
        terminal = self.spawn(*arguments, columns=columns, **environment)
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.before is not None
        return str(terminal.before).splitlines()


class Screen:
    """What somebody sees of a program that has the whole screen."""

    def __init__(self, program: pexpect.spawn, rows: int, columns: int) -> None:
        self.program = program
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)

    def resize(self, rows: int, columns: int) -> None:
        self._screen.resize(rows, columns)
        self.program.setwinsize(rows, columns)

    def until(self, *texts: str) -> list[str]:
        """The lines, when all these texts are among them."""
        deadline = time.monotonic() + TIMEOUT
        while not all(any(text in line for line in self._screen.display) for text in texts):
            assert time.monotonic() < deadline, "\n".join([f"not all of {texts}:", *self._screen.display])
            self._stream.feed(self.program.read_nonblocking(1 << 16, TIMEOUT))
        return list(self._screen.display)
