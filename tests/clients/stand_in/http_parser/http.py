"""Stands in for http-parser, a package in C that does not compile for today's Python and that pymesos imports.

Only drivers that read streams of events use it; the one of an agent does not.
"""


class HttpParser:
    """A name to import."""
