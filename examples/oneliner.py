"""Runs a command in a container, and shows what came of it. As root on Linux it is isolated."""

import mesocosm

result = mesocosm.run(["sh", "-c", "echo hello from $$; cat"], input="and from outside\n", mem="64MB", timeout=5)

print(result.text, end="")
print(f"exit status {result.exit_status}, {result.wall_time * 1000:.0f} ms, limit hit: {result.limit}")
