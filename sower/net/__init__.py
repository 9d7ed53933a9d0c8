"""The only code that touches sockets. It knows no vendor."""
