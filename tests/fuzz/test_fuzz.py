"""Every parser under atheris: first what is kept in corpus/TARGET, then what is found from there (conftest.py).

SOWER_FUZZ_SECONDS says how many for each target. A case that broke something once is called broke-WHAT, and stays.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_an_invariant_is_one_sentence_and_holds_for_all_that_is_kept(target: str) -> None:
    said = TARGETS[target].__doc__ or ""
    assert said.endswith(".")
    assert "\n" not in said
    cases = sorted((CORPUS / target).iterdir())
    assert cases
    for case in cases:
        TARGETS[target](case.read_bytes())


def test_every_invariant_holds_for_whatever_is_tried_meanwhile(fuzzing: tuple[Path, int, str]) -> None:
    folder, code, said = fuzzing
    logs = {target: log_of(folder / f"{target}.log") for target in TARGETS}
    assert {target: log[-3000:] for target, log in logs.items() if "Done" not in log} == {}, said[-3000:]
    assert code == 0, said[-3000:]


def log_of(file: Path) -> str:
    """What libFuzzer said, which may show bytes of any kind."""
    return file.read_text(errors="replace") if file.exists() else "it was not begun"
