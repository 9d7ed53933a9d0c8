"""`sower token`: mint a token for a private channel, or look into one without any secret."""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sower.cli.client import AppOption, ConfigOption, JsonOption, choose_app
from sower.cli.terminal import moment, out, plain, print_json, refuse, usage
from sower.cli.token_formats import MAKERS, NOT_SAID, Format, Wanted, abilities, meta_of, one_at_a_time, seconds_of
from sower.config import App
from sower.config_file import Loaded, find_config
from sower.core.grants import ALGORITHM, USUAL, Credential, inspect, mint, time_claim
from sower.core.message import check_channel_name
from sower.errors import BadToken
from sower.store.audit import Record, append
from sower.there import is_there


def token(
    ctx: typer.Context,
    channel: Annotated[str, typer.Argument(help="The channel, or a pattern with *; or the word: inspect.")],
    given: Annotated[
        str | None,
        typer.Argument(help="After inspect: the token, or - for stdin. With --format pusher: the client's socket_id."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="The user that the token speaks for.")] = None,
    ttl: Annotated[str, typer.Option(help="How long it is good: 10m, 1h, 30d.")] = "1h",
    can: Annotated[str, typer.Option(help="Capabilities with commas.")] = ",".join(USUAL),
    meta: Annotated[str | None, typer.Option(help="JSON that others see beside the user in presence.")] = None,
    format: Annotated[Format, typer.Option(help="jwt for Sower's own protocol, or a vendor's.")] = Format.JWT,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    app: AppOption = None,
) -> None:
    """Mint a token with the app's secret from the config; or explain one with `sower token inspect TOKEN`.

    \b
      sower token private-orders --user ada --ttl 1h --can subscribe,publish
      sower token inspect - < token.txt
      sower token --format ably 'chat:*' --user ada --can subscribe,publish
      sower token --format pusher presence-room 123.456 --user ada --meta '{"name": "Ada"}'
      sower token --format pubnub 'room-*' --user ada --ttl 12h
    """
    if channel == "inspect":
        settled = ("--user", "--ttl", "--can", "--meta", "--format", "--config", "--app")
        refuse(ctx, *settled, because="a token that is inspected is one already; leave it out.")
        show(read_token(given), time.time(), as_json=as_json)
        return
    if format in MAKERS:
        refuse(ctx, *NOT_SAID.get(format, ()), because=f"--format {format} cannot say it; leave it out.")
        shown = make_for_vendor(format, Wanted(channel, given, user, meta, ttl, can), config, app)
        print_json(shown) if as_json else print("\n".join(shown.values()))
        return
    one_at_a_time(given)
    made = make(channel, user, ttl, can, meta, config, app)
    print_json(made) if as_json else print(made["token"])


def make(
    channel: str, user: str | None, ttl: str, can: str, meta: str | None, config: Path | None, app: str | None
) -> dict[str, Any]:
    """Mint, and note it in the audit where there is a database. Raises SowerError."""
    loaded = find_config(config, dev_too=True)
    owner = choose_app(loaded.config, app)
    with usage("CHANNEL"):
        check_channel_name(channel)
    with usage("--can"):
        allowed = abilities(can)
    with usage("--ttl"):
        seconds = seconds_of(ttl)
    with usage("--meta"):
        shown = meta_of(meta)
    now = time.time()
    made = mint(
        Credential(owner.id, owner.key, owner.secret.encode()),
        channels={channel: allowed},
        user=user,
        issued=now,
        expires=now + seconds,
        meta=shown,
        token_id=secrets.token_hex(8),
    )
    _note(loaded, owner, channel, f"by `sower token`, for {user or 'nobody in particular'}, {ttl}")
    return {"token": made, "channel": channel, "expires": int(now + seconds)}


def make_for_vendor(format: Format, wanted: Wanted, config: Path | None, app: str | None) -> dict[str, Any]:
    """Make what a vendor's SDK takes, and note it in the audit where there is a database. Raises SowerError."""
    loaded = find_config(config, dev_too=True)
    owner = choose_app(loaded.config, app)
    made = MAKERS[format](owner, wanted)
    _note(loaded, owner, wanted.channel, f"by `sower token --format {format}`, for {wanted.user or 'nobody named'}")
    return made


def _note(loaded: Loaded, owner: App, channel: str, detail: str) -> None:
    if is_there(Path(loaded.config.store.path)):
        record = Record(time.time(), "token_minted", owner.id, owner.key, channel, None, detail)
        append(loaded.config.store.path, record)


def read_token(given: str | None) -> str:
    """The token from the command line or stdin."""
    if given is None:
        raise typer.BadParameter("give it as the next word, or - to read it from stdin.", param_hint="TOKEN")
    return sys.stdin.readline().strip() if given == "-" else given


def show(made: str, now: float, *, as_json: bool) -> None:
    """Print what a token says, and what is odd about it. Raises BadToken."""
    parts = inspect(made)
    odd = suspicions(parts["header"], parts["claims"], now)
    if as_json:
        print_json({**parts, "suspicious": odd})
        return
    claims = parts["claims"]
    out.print(f"key      {plain(str(parts['header'].get('kid', '(none)')))}", markup=False)
    out.print(f"user     {plain(str(claims.get('sub', '(nobody in particular)')))}", markup=False)
    out.print(f"expires  {expiry(ends(claims), now)}", markup=False)
    channels = claims.get("channels")
    for pattern, allowed in channels.items() if isinstance(channels, dict) else ():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        out.print(f"allows   {plain(str(pattern))}: {plain(str(allowed))}", markup=False)  # pyright: ignore[reportUnknownArgumentType]
    if claims.get("admin") is True:
        out.print("allows   everything that the secret allows", markup=False)
    if "meta" in claims:
        out.print(f"meta     {plain(json.dumps(claims['meta']))}", markup=False)
    for word in odd:
        out.print(f"odd      {word}", markup=False, style="yellow")
    out.print("The signature was not checked: that needs the secret.", style="dim")


def ends(claims: dict[str, Any]) -> float | None:
    """When a token ends, None where it does not say it as the daemon wants it."""
    try:
        return time_claim(claims, "exp")
    except BadToken:
        return None


def expiry(exp: float | None, now: float) -> str:
    """When a token ends, in words."""
    if exp is None:
        return "(never, so the daemon refuses it)"
    away = abs(exp - now)
    unit, size = next((u for u in (("d", 86400), ("h", 3600), ("m", 60)) if away >= u[1]), ("s", 1))
    return f"{moment(exp)}, {'in ' if exp > now else ''}{away / size:.0f}{unit}{'' if exp > now else ' ago'}"


def suspicions(header: dict[str, Any], claims: dict[str, Any], now: float) -> list[str]:
    """What would make the daemon refuse a token, or makes it stronger than it need be."""
    odd: list[str] = []
    if header.get("alg") != ALGORITHM:
        odd.append(f"it is signed with {plain(str(header.get('alg')))}; only {ALGORITHM} is accepted")
    if not isinstance(header.get("kid"), str):
        odd.append("its header has no kid, so no key can be found for it")
    exp = ends(claims)
    if exp is None:
        odd.append("it never expires; a token must")
    elif exp <= now:
        odd.append("it has expired")
    elif exp > now + 90 * 86400:
        odd.append("it is good for over 90 days")
    channels = claims.get("channels")
    if claims.get("admin") is True:
        odd.append("it stands for the secret itself: no client should have it")
    elif not isinstance(channels, dict) or not channels:
        odd.append("it has no channels claim, so it allows what anybody may do")
    elif "*" in channels:
        odd.append("it is good for every channel")
    return odd
