"""The page of the agent: HTML, CSS and JavaScript as browsers read them, with nothing to build."""
