"""The `sower` command as typer runs it: each subcommand is a module of this folder, imported when it is asked for."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer._completion_classes import completion_init
from typer.core import TyperGroup
from typer.main import get_command, get_group

from sower import __version__
from sower.cli import COMMANDS


class LazyGroup(TyperGroup):
    """The commands of COMMANDS, each imported when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"sower.cli.{cmd_name}")
        group: typer.Typer | None = getattr(module, "app", None)
        if group is not None:
            command = get_group(group)
        else:
            single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            single.command(cmd_name)(getattr(module, cmd_name))
            command = get_command(single)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Whoever read its output may be gone: `sower audit | head` is no failure."""
        from sower.cli.terminal import find

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except Exception as error:
            if find(BrokenPipeError, error) is None:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit from error
        return result

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command to run; the nearest one is named for an unknown word."""
        self.commands = dict.fromkeys(COMMANDS)  # pyright: ignore[reportAttributeAccessIssue] - only the names are read
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"sower {__version__}")
        raise typer.Exit


@app.callback()
def sower(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Realtime channels over WebSockets: one daemon in place of Pusher Channels, Ably and PubNub.

    \b
      sower serve --dev            start a daemon to play with
      sower tail demo              see what is said on a channel
    """
    for word in sys.argv:
        if any("\ud800" <= c <= "\udfff" for c in word):
            raise typer.BadParameter(f"{word!r} is not UTF-8.")


def run() -> None:
    """Run the command that the words of this process name. Raises SowerError."""
    if "_SOWER_COMPLETE" in os.environ:
        completion_init()
    app(prog_name="sower")
