"""The tasks of frameworks, and the executors that run them, as the agent sees both."""
