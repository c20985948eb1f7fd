"""The agent's side of a cluster: finding the master, registering with it, and carrying what it and the agent say."""
