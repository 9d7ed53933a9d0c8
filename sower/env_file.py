"""An env file: NAME=VALUE a line, as dotenv, Docker and systemd read it. Its ${NAME} are filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*[=:]\s*(.*?)\s*\Z", re.ASCII)
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'")
_REFERENCE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")

MOST_REFERENCES = 8
"""References in references: as deep as they are followed."""


def parse_env(text: str) -> dict[str, str]:
    """Every variable, the last of a name wins. What docker-compose.yml has under `environment:` is read too."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip().removeprefix("- ")
        if line[:1] in ("'", '"'):
            line = line.strip(line[0])  # an item of a YAML list, quoted as a whole
        match = None if line.startswith("#") else _LINE.match(line)
        if match is not None:
            found[match[1]] = _value(match[2])
    return {name: _filled(value, found) for name, value in found.items()}


def _value(written: str) -> str:
    quoted = _QUOTED.match(written)
    if quoted is None:
        return written.partition(" #")[0].strip()
    return quoted[2] if quoted[1] is None else re.sub(r"\\(.)", r"\1", quoted[1])


def _filled(value: str, known: Mapping[str, str]) -> str:
    for _ in range(MOST_REFERENCES):
        if "${" not in value:
            break
        value = _REFERENCE.sub(lambda found: known.get(found[1]) or found[2] or "", value)
    return value
