"""Executors: programs that run an agent's tasks, each in the container of the tasks. They speak the v1 executor API.

They are built-in programs (`launcher.programs`), and so need nothing but the standard library, and no file where they
run. An executor has exactly what its task has: its user, its capabilities and limits, its root directory.
"""
