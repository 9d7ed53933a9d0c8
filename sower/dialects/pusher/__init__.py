"""Pusher Channels: its WebSocket protocol 5 to 7, and its HTTP API."""
