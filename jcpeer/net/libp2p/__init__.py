"""The carrier between machines: TCP, Noise and Yamux of libp2p under the contract of `net.network`."""

from jcpeer.net.libp2p.carrier import open_libp2p

__all__ = ["open_libp2p"]
