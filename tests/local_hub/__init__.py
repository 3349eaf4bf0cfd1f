"""A small Hub on loopback for the tests: the real clients talk to it over HTTP, as they would to the real one.

Files are served out of a folder, every request is written down, and faults can be injected. What the clients need of
each answer was learnt from the clients themselves; that the real Hub answers the same in every detail is not claimed.
Large files go up by LFS, or over Xet (see `xet`) from programs that are given `hub.environment(xet=True)`.
"""

from .faults import Request
from .hub import LocalHub

__all__ = ["LocalHub", "Request"]
