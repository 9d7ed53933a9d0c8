"""Sower: realtime channels over WebSockets, in one daemon."""

__version__ = "0.1.0"
