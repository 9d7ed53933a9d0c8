"""One folder per wire protocol, each a pure translator between bytes and commands."""
