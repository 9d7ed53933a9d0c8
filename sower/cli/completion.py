"""`sower completion`: the script that teaches a shell to complete sower's words."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell.

    \b
      sower completion bash > ~/.local/share/bash-completion/completions/sower
      sower completion fish > ~/.config/fish/completions/sower.fish
    """
    print(get_completion_script(prog_name="sower", complete_var="_SOWER_COMPLETE", shell=shell))
