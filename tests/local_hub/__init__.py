"""Serve a small Hub on loopback for the tests: the real clients talk to it over HTTP, as to the real one.

Files are served from a folder, every request is logged, and faults can be injected. What the clients need of each
response was learned from the clients themselves; whether the real Hub responds the same in every detail is not known.
Large files are uploaded by LFS, or over Xet (see `xet`) by programs that run with `hub.environment(xet=True)`.
"""

from .faults import Request
from .hub import LocalHub

__all__ = ["LocalHub", "Request"]
