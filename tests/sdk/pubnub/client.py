"""pubnub for Python as it is, told what to do by lines of JSON.

argv: port, one of sync, asyncio and engine, then options of every client in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any

from pubnub.callbacks import SubscribeCallback
from pubnub.enums import PNReconnectionPolicy
from pubnub.exceptions import PubNubAsyncioException, PubNubException
from pubnub.models.consumer.v3.channel import Channel
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub
from pubnub.pubnub_asyncio import AsyncioSubscriptionManager, EventEngineSubscriptionManager, PubNubAsyncio

PORT, MODE, OPTIONS = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
LOCK = threading.Lock()
clients: dict[str, Any] = {}


def tell(**told: Any) -> None:
    with LOCK:
        print(json.dumps(told, default=str), flush=True)


class Listener(SubscribeCallback):
    def __init__(self, client: str) -> None:
        self.client = client

    def status(self, pubnub: Any, status: Any) -> None:
        tell(status=str(status.category).rpartition(".")[2], client=self.client, failed=bool(status.is_error()))

    def message(self, pubnub: Any, message: Any) -> None:
        self.told("message", message)

    def signal(self, pubnub: Any, signal: Any) -> None:
        self.told("signal", signal)

    def told(self, kind: str, event: Any) -> None:
        more = {"publisher": event.publisher, "channel": event.channel, "subscription": event.subscription}
        tokens = {"timetoken": str(event.timetoken), "meta": event.user_metadata, "type": event.custom_message_type}
        tell(**{kind: event.message}, client=self.client, **more, **tokens)

    def presence(self, pubnub: Any, presence: Any) -> None:
        more = {"uuid": presence.uuid, "occupancy": presence.occupancy, "state": presence.state}
        tell(presence=presence.event, client=self.client, channel=presence.channel, **more)

    def message_action(self, pubnub: Any, action: Any) -> None:
        tell(action=action.value, client=self.client)


def make(client: str, **more: Any) -> None:
    config = PNConfiguration()
    config.origin, config.ssl, config.user_id = f"127.0.0.1:{PORT}", False, client
    config.reconnect_policy = PNReconnectionPolicy.LINEAR
    config.daemon = True
    for name, value in {**OPTIONS, **more}.items():
        setattr(config, name, value)
    if MODE == "sync":
        clients[client] = PubNub(config)
    else:
        manager = AsyncioSubscriptionManager if MODE == "asyncio" else EventEngineSubscriptionManager
        clients[client] = PubNubAsyncio(config, subscription_manager=manager)
    clients[client].add_listener(Listener(client))


def build(pubnub: Any, method: str, args: dict[str, Any]) -> Any:
    """A call of the SDK, whose words are its builder's methods."""
    if method == "grant_token":
        channel = Channel.id(args["channel"]).read().write()
        return pubnub.grant_token().channels([channel]).ttl(args["ttl"]).authorized_uuid(args["user"])
    if method == "revoke_token":
        return pubnub.revoke_token(args["token"])
    built = getattr(pubnub, method)()
    for name, value in args.items():
        built = getattr(built, name)(value)
    return built


def shown(result: Any) -> Any:
    """What a result says, as far as the tests ask."""
    if hasattr(result, "get_token"):
        return {"token": result.get_token()}
    if isinstance(result, int | str | list | dict | None):
        return result
    return json.loads(json.dumps(result, default=lambda one: {k: v for k, v in vars(one).items() if k != "crypto"}))


def failure(error: Any) -> dict[str, Any]:
    status = getattr(error, "status_code", None) or getattr(getattr(error, "status", None), "status_code", None)
    inner = getattr(getattr(error, "status", None), "error_data", None)
    code = getattr(error, "_status_code", None) or status
    return {
        "message": str(error),
        "kind": type(error).__name__,
        "status": code,
        "data": str(getattr(inner, "information", "")),
    }


async def call(client: str, method: str, args: dict[str, Any], id: int) -> None:
    built = build(clients[client], method, args)
    try:
        if MODE == "sync":
            envelope = await asyncio.to_thread(built.sync)
        else:
            envelope = await built.future()
            if envelope.is_error():
                raise envelope if isinstance(envelope, Exception) else envelope.status.error_data.exception
        tell(called=id, result=shown(envelope.result))
    except (PubNubException, PubNubAsyncioException, AttributeError) as error:
        tell(called=id, failed=failure(error))


def subscribe(
    client: str, channels: list[str], groups: tuple[str, ...] = (), presence: bool = False, timetoken: int = 0
) -> None:
    built = clients[client].subscribe().channels(channels).channel_groups(list(groups))
    if presence:
        built = built.with_presence()
    if timetoken:
        built = built.with_timetoken(timetoken)
    built.execute()


def unsubscribe(client: str, channels: list[str]) -> None:
    clients[client].unsubscribe().channels(channels).execute()


def token(client: str, token: str) -> None:
    clients[client].set_token(token)


async def main() -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)

    threading.Thread(target=read, daemon=True).start()
    tell(ready=True)
    actions = {"make": make, "subscribe": subscribe, "unsubscribe": unsubscribe, "token": token}
    while True:
        asked = json.loads(await lines.get())
        what = asked.pop("do")
        if what == "call":
            await call(**asked)
        else:
            actions[what](**asked)


asyncio.run(main())
