"""`sower reload`: have the daemon take a changed config over."""

from __future__ import annotations

import trio

from sower.cli.client import (
    AppOption,
    ConfigOption,
    JsonOption,
    KeyOption,
    SecretOption,
    UrlOption,
    find_daemon,
)
from sower.cli.terminal import note, out, print_json


def reload(
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Have the daemon read its config anew. Nobody who is connected notices; a config that is wrong changes nothing.

    \b
      sower reload
      sower reload --config /etc/sower/sower.toml
    """
    daemon = find_daemon(config, url, app, key, secret_file)
    answer = trio.run(daemon.request, "POST", "/reload")
    if as_json:
        print_json(answer)
        return
    for path in answer["taken"]:
        out.print(f"in force  {path}", markup=False)
    for path in answer["waiting"]:
        out.print(f"waiting   {path}", markup=False)
    if answer["waiting"]:
        note("restart", "what waits is in force after a restart: systemctl restart sower")
    elif not answer["taken"]:
        note("reload", "nothing is different")
