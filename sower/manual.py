"""The manual pages, made from the command tree, the settings' doc lines and the error tree.

`python -m sower.manual .` writes them, and the example config; a test finds a page that is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from sower.cli import COMMANDS
from sower.cli.program import app
from sower.config_docs import SECTIONS, example, settings
from sower.core.grants import USUAL, Can
from sower.dialects.native import native
from sower.errors import tree
from sower.watching import ROUTES

DATE = "November 24, 2026"

EXIT_CODES = {
    0: "Done.",
    1: "It failed, or was refused for another reason than those below.",
    2: "The command's words are wrong.",
    3: "No daemon answers at the address.",
    4: "The credential is missing, wrong, or does not allow this.",
    5: "The config or the database cannot be used.",
}

FILES = {
    "./sower.toml": "The config, where no --config names another.",
    "/etc/sower/sower.toml": "The config, where there is none in the current folder.",
    "~/.local/state/sower/": "Config and database of serve --dev.",
}

ENVIRONMENT = {
    "SOWER_URL": "Where the daemon is, as --url.",
    "SOWER_DEV_DIR": "The folder of serve --dev, in place of ~/.local/state/sower.",
    "XDG_STATE_HOME": "What stands for ~/.local/state.",
    "JOURNAL_STREAM": "Set by systemd where the log goes to its journal: then lines have priorities.",
    "NO_COLOR": "Set to anything, it turns colours off.",
}

PAGES_SERVED = {
    "/sower.js": "The client for browsers and Node, an ES module. Its types are at /sower.d.ts.",
    "/dashboard": "What happens in the daemon, for who knows the secret of a key; see web.dashboard in the config.",
    "/demo": "Two people on one channel; see web.demo in the config.",
}

TOPICS = (
    "sower-ably",
    "sower-cluster",
    "sower-dialects",
    "sower-operations",
    "sower-promises",
    "sower-pubnub",
    "sower-pusher",
    "sower-security",
    "sower-webhooks",
)
"""Pages that are written by hand, man/NAME.7."""

FRAMES = """\
The server says
.Cm welcome
(session, channel, position, user, members),
.Cm event
(event, data, serial, time, user),
.Cm join , leave , update
(user, meta),
.Cm gap
(since, position),
.Cm ack
(id, serial),
.Cm error
(code, message, hint, retry) and
.Cm pong .
The client says
.Cm publish
(event, data, id, echo),
.Cm presence
(meta),
.Cm token
(token) and
.Cm ping .
Each is a JSON object with a
.Cm type
in a text frame of its own; the subprotocol is sower.v1.
A serial is a text of 17 digits.
The position to come back with as
.Cm since
is the epoch of the welcome's position, a colon, and the serial of the last event.
.Pp
Over
.Pa /sse
each word of the server is a server-sent event of that name with the same JSON as its data, and its id is the position
to come back with; nothing is said to the server.
What is refused before the stream begins is an ordinary HTTP error; later an
.Cm error
event precedes the end.
"""


def config_page() -> str:
    """sower.toml(5)."""
    lines = [
        *_head("SOWER.TOML", 5, "sower.toml", "the config of the sower daemon"),
        ".Sh DESCRIPTION",
        "A TOML file.",
        "It is looked for at the place that",
        ".Fl Fl config",
        "names, else in the current folder, else in",
        ".Pa /etc/sower .",
        "Durations and sizes are strings with a unit: ms, s, m, h, d and B, KiB, MiB, GiB.",
        "An unknown key is an error.",
    ]
    section = ""
    for setting in settings():
        if setting.section != section:
            lines += [".El"] if section else []
            section = setting.section
            header = f"[[{section}]]" if section in ("apps", "channels") else f"[{section}]"
            lines += [f".Ss {header}", _roff(SECTIONS[section]), ".Bl -tag -width Ds"]
        lines += [f".It Ic {setting.name}", _roff(setting.doc)]
        if setting.default is not None:
            lines += [".Pp", f"Default: {_roff(setting.default)}"]
    lines += [
        ".El",
        ".Sh EXAMPLES",
        "The smallest config:",
        ".Bd -literal -offset indent",
        "[[apps]]",
        'id = "1001"',
        'key = "app\\-key"',
        'secret = "a\\-long\\-random\\-text"',
        "",
        "[[channels]]",
        'match = "orders\\-*"',
        'history = {messages = 1000, age = "72h"}',
        ".Ed",
        ".Sh SEE ALSO",
        ".Xr sower 1",
    ]
    return "\n".join(lines) + "\n"


def command_page() -> str:
    """sower(1)."""
    lines = [
        *_head("SOWER", 1, "sower", "realtime channels over WebSockets"),
        ".Sh SYNOPSIS",
        ".Nm",
        ".Ar command",
        ".Op Ar options",
        ".Sh DESCRIPTION",
        "One daemon in place of Pusher Channels, Ably and PubNub, and the commands that speak to it.",
        "Data goes to standard output, talk to standard error.",
        ".Sh COMMANDS",
    ]
    for path, command in sorted_commands():
        lines += _command(path, command)
    lines += [".Sh ROUTES", ".Bl -tag -width Ds", *_routes(), ".El"]
    lines += [".Sh PROTOCOL", FRAMES.rstrip()]
    lines += [".Pp", f"A token's capabilities are {', '.join(Can)}; without --can it has {', '.join(USUAL)}."]
    lines += [".Sh ENVIRONMENT", *_list(ENVIRONMENT.items(), "Ev")]
    lines += [".Sh FILES", *_list(FILES.items(), "Pa")]
    lines += [".Sh EXIT STATUS", *_list(((str(code), text) for code, text in EXIT_CODES.items()), "Li")]
    lines += [".Sh DIAGNOSTICS", "Every error has a code, which", ".Nm Cm explain", "explains."]
    lines += [".Bl -tag -width Ds"]
    for error in tree().values():
        again = "may be tried again" if error.retry else "is final until something changes"
        lines += [f".It Er {error.code}", f"HTTP {error.status}, close code {error.close}; {again}."]
        lines += [_roff(f"{error.text} {error.hint}")]
    lines += [".El", ".Sh SEE ALSO", *_see_also()]
    return "\n".join(lines) + "\n"


def _see_also() -> Iterable[str]:
    """Every other page."""
    others = [*((f"sower-{name}", 1) for name in sorted(COMMANDS)), ("sower.toml", 5), *((name, 7) for name in TOPICS)]
    for name, section in others:
        yield f".Xr {name} {section}{' ,' if (name, section) != others[-1] else ''}"


def page_of(name: str) -> str:
    """One command: sower-NAME(1)."""
    lines = [
        *_head(f"SOWER-{name.upper()}", 1, f"sower-{name}", COMMANDS[name].rstrip(".").replace("'", "\\(aq")),
        ".Sh SYNOPSIS",
    ]
    commands = [(path, command) for path, command in sorted_commands() if path.split()[0] == name]
    for path, command in commands:
        lines += [f".Nm sower {path}", *_synopsis(command)]
    lines += [".Sh DESCRIPTION"]
    for path, command in commands:
        lines += _command(path, command)
    lines += [".Sh SEE ALSO", ".Xr sower 1 ,", ".Xr sower.toml 5"]
    return "\n".join(lines) + "\n"


def _synopsis(command: Any) -> Iterable[str]:
    """An option that takes a value is told from one that takes none, and what must be there from what may."""
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield f".{'Ar' if parameter.required else 'Op Ar'} {parameter.name}"
        elif parameter.name != "help":
            flag = str(parameter.opts[0]).removeprefix("--").replace("-", "\\-")
            value = "" if parameter.is_flag else f" Ar {str(parameter.name).lower()}"
            yield f".Op Fl Fl {flag}{value}"


def sorted_commands() -> list[tuple[str, Any]]:
    """Every command with its words, groups opened."""
    from typer.main import get_command

    group: Any = get_command(app)
    found: list[tuple[str, Any]] = []
    for name in COMMANDS:
        command: Any = group.get_command(None, name)
        inner: dict[str, Any] = getattr(command, "commands", None) or {}
        found += [(f"{name} {word}", inner[word]) for word in inner] if inner else [(name, command)]
    return found


def _command(path: str, command: Any) -> list[str]:
    text, _, examples = str(command.help or "").partition("\b")
    lines = [f".Ss {path}", _roff(" ".join(text.split()))]
    if examples.strip():
        lines += [".Bd -literal -offset indent", *(_roff(line[2:]) for line in examples.strip("\n").splitlines())]
        lines += [".Ed"]
    entries: list[str] = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        if parameter.param_type_name == "argument":
            entries += [f".It Ar {parameter.name}"]
        else:
            entries += [f".It Fl Fl {str(parameter.opts[0]).removeprefix('--').replace('-', chr(92) + '-')}"]
        entries += [_roff(str(getattr(parameter, "help", None) or ""))]
    return [*lines, ".Bl -tag -width Ds", *entries, ".El"] if entries else lines


def _routes() -> Iterable[str]:
    protocol = native("")
    for pattern, meaning in ROUTES.items():
        yield f".It GET {_roff(pattern)}"
        yield _roff(meaning)
    for route in (*protocol.sockets, *protocol.streams):
        yield f".It GET {_roff(route.pattern)}"
        yield _roff((route.open.__doc__ or "").splitlines()[0])
    for route in protocol.http:
        yield f".It {route.method} {_roff(route.pattern)}"
        asks, _, answers = (route.decode.__doc__ or "").partition("\n\n")
        yield _roff(asks.split(". ")[0].rstrip(".") + ".")
        yield _roff(" ".join(answers.removeprefix("    Answers ").split()))
    for path, text in PAGES_SERVED.items():
        yield f".It GET {_roff(path)}"
        yield _roff(text)


def _head(title: str, section: int, name: str, what: str) -> list[str]:
    return [f".Dd {DATE}", f".Dt {title} {section}", ".Os", ".Sh NAME", f".Nm {name}", f".Nd {what}"]


def _list(entries: Iterable[tuple[str, str]], macro: str) -> list[str]:
    lines = [".Bl -tag -width Ds"]
    for name, text in entries:
        lines += [f".It {macro} {_roff(name)}", _roff(text)]
    return [*lines, ".El"]


def _roff(text: str) -> str:
    """Text that troff takes literally, each sentence on a line of its own as mdoc wants it."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = re.sub(r"(?<=[A-Za-z0-9)\]\"])([.!?]) +(?=[A-Z(`\\])", r"\1\n", text)
    return f"\\&{text}" if text.startswith(".") else text


PAGES = {
    "sower.1": command_page,
    "sower.toml.5": config_page,
    **{f"sower-{name}.1": partial(page_of, name) for name in COMMANDS},
}


def write(root: Path) -> None:
    """Write all pages, and the example config, in a checkout."""
    for name, page in PAGES.items():
        (root / "man" / name).write_text(page())
    (root / "config" / "sower.toml").write_text(example())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
