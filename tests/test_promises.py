"""man/sower-promises.7 and man/sower-security.7: each promise and each defence is shown by a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

from sower.config_docs import settings

TESTS = Path(__file__).parent
MAN = TESTS.parent / "man"


def names() -> set[str]:
    """Of all tests."""
    return {
        name
        for file in TESTS.rglob("test_*.py")
        if "node_modules" not in file.parts and ".venv" not in file.parts
        for name in re.findall(r"def (test_\w+)\(", file.read_text())
    }


def name_of(sentence: str) -> str:
    """The name that a test has which keeps a sentence."""
    return "test_" + re.sub(r"\W+", "_", sentence.lower()).strip("_")


def missing(sentences: list[str]) -> list[str]:
    known = names()
    return [sentence for sentence in sentences if name_of(sentence) not in known]


def test_each_sentence_of_the_promises_is_a_test_s_name() -> None:
    page = (MAN / "sower-promises.7").read_text()
    sentences = re.findall(r"^\.It\n(.+)\.$", page, re.MULTILINE)
    assert len(sentences) > 20
    assert missing(sentences) == []


def test_each_defence_of_the_security_page_has_its_default_and_its_test() -> None:
    page = (MAN / "sower-security.7").read_text().partition(".Sh THREATS\n")[2].partition("\n.Sh ")[0]
    defences = page.split("\n.It ")[1:]
    assert len(defences) > 12
    defaults = {f"{setting.section}.{setting.name}": setting.default for setting in settings()}
    for defence in defences:
        sentences = re.findall(r"^\.Dq (.+)$", defence, re.MULTILINE)
        assert sentences, defence
        assert missing(sentences) == []
        for name, default in re.findall(r"^\.Ic (\S+) = (.+?)(?: [.,;])?$", defence, re.MULTILINE):
            assert default.strip('"') == str(defaults[name]).strip('"'), name
