"""What a user submits: the checked graph, its manifest, and the loaders that make them."""

from jcpeer.application.graph import Graph, check_graph
from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.loading import load

__all__ = ["Graph", "LoadedApplication", "check_graph", "load"]
