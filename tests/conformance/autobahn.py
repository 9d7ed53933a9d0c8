"""`python -m tests.conformance.autobahn ADDRESS -i CASE...`: the Autobahn cases, by kosoku, with one of its faults mended.

kosoku hands messages to the cases as str, bytes as Latin-1; cases 12 and 13 count on bytes, and raise TypeError for text.
"""

from __future__ import annotations

from typing import Any

from kosoku import _caseindex
from kosoku._cli import main

_build_index = _caseindex.build_index


def build_index(*args: Any) -> Any:
    cases, groups = _build_index(*args)
    for name, case in cases.items():
        if name.startswith(("12.", "13.")):
            case.onMessage = _with_bytes(case.onMessage)
    return cases, groups


def _with_bytes(heard: Any) -> Any:
    def on_message(self: Any, message: bytes | str, binary: bool) -> None:
        heard(self, _bytes(message, binary), binary)

    return on_message


def _bytes(message: bytes | str, binary: bool) -> bytes:
    if isinstance(message, bytes):
        return message
    return message.encode("latin-1" if binary else "utf-8")


if __name__ == "__main__":
    _caseindex.build_index = build_index
    main()
