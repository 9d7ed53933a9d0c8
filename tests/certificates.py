"""Certificates for tests, made by the real openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(folder: Path, name: str = "localhost", days: int = 30) -> tuple[Path, Path]:
    """A self-signed certificate of localhost and 127.0.0.1, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    what = f"-days {days} -subj /CN={name} -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    command = ["openssl", *kind.split(), *what.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
