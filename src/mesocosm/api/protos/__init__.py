"""The messages: written in `*.proto`, and turned into code by `python -m tests.setup.protos`."""
