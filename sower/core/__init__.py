"""The pure part: no trio, no socket, no disk, no clock. Time and randomness are arguments."""
