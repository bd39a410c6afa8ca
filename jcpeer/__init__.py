"""jcpeer: a peer-to-peer grid. Hand any node a graph of tasks; a coordinator arises, recruits, and is survived."""

from jcpeer._version import version as __version__

__all__ = ["__version__"]
