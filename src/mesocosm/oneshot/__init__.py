"""Containers without set-up: private directories, the strongest isolation there is, and nothing left at the end.

`mesocosm run` on the command line and `mesocosm.run` in Python are made of this.
"""
