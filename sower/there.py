"""Whether a file is there, for who may not be able to see it: Path.exists raises PermissionError then."""

from __future__ import annotations

from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether there is a file, or something that keeps us from seeing it, which opening it will tell."""
    try:
        return path.exists()
    except OSError:
        return True
