"""The arrows of the house: cli -> daemon -> {net, hub, store} -> dialects -> core, and never back."""

from __future__ import annotations

import ast
from pathlib import Path

import sower

ROOT = Path(sower.__file__).parent

FORBIDDEN = {
    "core": ("sower.dialects", "sower.net", "sower.store", "sower.hub", "sower.daemon", "sower.cli", "trio", "socket", "time", "random", "secrets", "os", "apsw"),
    "dialects": ("sower.net", "sower.store", "sower.hub", "sower.daemon", "sower.cli", "trio", "socket", "time", "apsw"),
    "net": ("sower.dialects.", "sower.store", "sower.hub", "sower.daemon", "sower.cli", "apsw"),
    "store": ("sower.dialects", "sower.net", "sower.hub", "sower.daemon", "sower.cli", "socket"),
    "": ("sower.cli",),
}  # fmt: skip
"""Folder -> what its files do not import. net may know the interface that all dialects share, and no vendor."""

ALLOWED = {("net", "sower.dialects.interface"), ("manual.py", "sower.cli"), ("manual.py", "sower.cli.program")}


def imports(file: Path) -> set[str]:
    """What a file imports when it runs."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_no_import_goes_the_wrong_way() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for folder, forbidden in FORBIDDEN.items()
        for file in ((ROOT / folder).rglob("*.py") if folder else ROOT.glob("*.py"))
        for name in imports(file)
        if any(name == f or name.startswith(f if f.endswith(".") else f"{f}.") for f in forbidden)
        and (folder, name) not in ALLOWED
        and (file.name, name) not in ALLOWED
        and file.name != "__main__.py"
    ]
    assert wrong == []


TABLES = ("errors.py", "config.py")
"""Files that list: they are read by looking something up, and grow by an entry."""


def test_every_file_is_one_idea_and_every_function_a_small_one() -> None:
    for file in ROOT.rglob("*.py"):
        text = file.read_text()
        if file.name not in TABLES:
            assert len(text.splitlines()) <= 450, f"{file.name} is no longer one idea"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length <= 60, f"{file.name}: {node.name} has {length} lines"


def test_every_module_says_what_it_is_for() -> None:
    for file in ROOT.rglob("*.py"):
        assert ast.get_docstring(ast.parse(file.read_text())), file
