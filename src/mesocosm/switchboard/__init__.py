"""Talking to containers: terminals, what is typed into commands, and what they write to who waits for it."""
