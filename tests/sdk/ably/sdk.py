"""ably-python clients, Realtime and Rest, as they are, told what to do by lines of JSON. argv: port key format"""

import asyncio
import base64
import json
import sys

from ably import AblyRealtime, AblyRest
from ably.types.channelmode import ChannelMode
from ably.types.channeloptions import ChannelOptions

PORT, KEY, FORMAT = sys.argv[1:4]
BINARY = FORMAT == "msgpack"
clients = {}
watched = set()


def tell(**told):
    print(json.dumps(told), flush=True)


def shown(error):
    code, status = getattr(error, "code", None), getattr(error, "status_code", None)
    return error and {"code": code, "status": status, "message": str(error)}


def data(value):
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes | bytearray) else value


def given(value):
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) and "bytes" in value else value


def message(m):
    return {
        "id": m.id, "name": m.name, "data": data(m.data), "user": m.client_id, "connection": m.connection_id,
        "extras": m.extras, "serial": m.serial, "timestamp": m.timestamp, "action": ACTIONS[int(m.action or 0)],
        "version": m.version.as_dict(), "summary": m.annotations.summary,
    }  # fmt: skip


ACTIONS = ["message.create", "message.update", "message.delete", "meta", "message.summary", "message.append"]


def annotation(a):
    return {
        "action": ["annotation.create", "annotation.delete"][int(a.action)], "type": a.type, "name": a.name,
        "user": a.client_id, "data": data(a.data), "count": a.count, "serial": a.serial, "message": a.message_serial,
        "extras": a.extras,
    }  # fmt: skip


async def every_page(page, show):
    pages = [[show(one) for one in page.items]]
    while page.has_next() and len(pages) < 20:
        page = await page.next()
        pages.append([show(one) for one in page.items])
    return pages


def member(m):
    action = ["absent", "present", "enter", "leave", "update"][int(m.action)]
    return {"action": action, "user": m.client_id, "connection": m.connection_id, "data": data(m.data), "id": m.id}


def one_after_the_other(tokens):
    left = list(tokens)

    async def callback(params):
        return left.pop(0)

    return callback


async def connect(client, clientId=None, echoMessages=None, tokens=None, **more):
    if tokens is not None:
        more["auth_callback"] = one_after_the_other(tokens)
    if echoMessages is not None:
        more["echo_messages"] = echoMessages
    if not {"token", "auth_callback"} & more.keys():
        more.setdefault("key", KEY)
    made = clients[client] = AblyRealtime(
        endpoint=f"127.0.0.1:{PORT}", tls=False, use_binary_protocol=BINARY, client_id=clientId, **more
    )

    def changed(change):
        tell(state=change.current.value, event=change.event.value, client=client, error=shown(change.reason),
             id=made.connection.connection_manager.connection_id)  # fmt: skip

    made.connection.on(changed)


async def rest(client, clientId=None, use_token_auth=True, **more):
    more.setdefault("key", KEY)
    clients[client] = AblyRest(
        endpoint="127.0.0.1", port=int(PORT), tls=False, use_token_auth=use_token_auth, use_binary_protocol=BINARY,
        client_id=clientId, **more,
    )  # fmt: skip
    return True


async def close(client):
    await clients[client].close()


async def drop(client):
    clients[client].connection.connection_manager.transport.websocket.transport.abort()


async def ping(client):
    return await clients[client].connection.ping()


async def attach(client, channel, options=None):
    if options and "modes" in options:
        options = {**options, "modes": [ChannelMode[name.upper()] for name in options["modes"]]}
    got = clients[client].channels.get(channel, ChannelOptions(**options) if options else None)
    if (client, channel) not in watched:
        watched.add((client, channel))
        got.on(
            lambda change: tell(
                change=change.current.value, channel=channel, client=client, resumed=change.resumed,
                error=shown(change.reason),
            )
        )  # fmt: skip
        await got.subscribe(lambda m: tell(message=message(m), channel=channel, client=client))
    await got.attach()
    return {"params": got.params}


async def detach(client, channel):
    await clients[client].channels.get(channel).detach()
    return True


async def publish(client, channel, messages):
    from ably.types.message import Message

    sent = [
        Message(
            m.get("name"), given(m.get("data")), client_id=m.get("clientId"), id=m.get("id"), extras=m.get("extras")
        )
        for m in messages
    ]
    result = await clients[client].channels.get(channel).publish(sent)
    return {"serials": list(result.serials)} if result is not None else None


async def history(client, channel, params=None):
    names = {"untilAttach": "until_attach"}
    named = {names.get(k, k): v for k, v in (params or {}).items()}
    return await every_page(await clients[client].channels.get(channel).history(**named), message)


async def get_message(client, channel, serial):
    return message(await clients[client].channels.get(channel).get_message(serial))


async def edit(client, channel, how, message, operation=None):
    from ably.types.message import Message
    from ably.types.operations import MessageOperation

    sent = Message(
        message.get("name"), given(message.get("data")), serial=message.get("serial"), extras=message.get("extras")
    )
    said = MessageOperation(**operation) if operation else None
    return (await getattr(clients[client].channels.get(channel), f"{how}_message")(sent, said)).version_serial


async def versions(client, channel, serial, params=None):
    return await every_page(await clients[client].channels.get(channel).get_message_versions(serial, params), message)


async def annotate(client, channel, serial, annotation, how="publish"):
    from ably.types.annotation import Annotation

    sent = Annotation(**{**annotation, "data": given(annotation.get("data"))})
    await getattr(clients[client].channels.get(channel).annotations, how)(serial, sent)
    return True


async def annotations(client, channel, serial, params=None):
    page = await clients[client].channels.get(channel).annotations.get(serial, params)
    return await every_page(page, annotation)


async def listen(client, channel):
    await (
        clients[client]
        .channels.get(channel)
        .annotations.subscribe(lambda a: tell(annotation=annotation(a), channel=channel, client=client))
    )
    return True


async def watch(client, channel):
    presence = clients[client].channels.get(channel).presence
    await presence.subscribe(lambda m: tell(presence=member(m), channel=channel, client=client))


async def enter(client, channel, user=None, data=None):
    presence = clients[client].channels.get(channel).presence
    await (presence.enter(given(data)) if user is None else presence.enter_client(user, given(data)))
    return True


async def update(client, channel, data=None):
    await clients[client].channels.get(channel).presence.update(given(data))
    return True


async def leave(client, channel, data=None):
    await clients[client].channels.get(channel).presence.leave(given(data))
    return True


async def members(client, channel, params=None):
    got = await clients[client].channels.get(channel).presence.get(**(params or {}))
    return [member(m) for m in getattr(got, "items", got)]


async def presence_history(client, channel, params=None):
    page = await clients[client].channels.get(channel).presence.history(**(params or {}))
    return await every_page(page, member)


async def time(client):
    return await clients[client].time()


async def status(client, channel):
    got = await clients[client].channels.get(channel).status()
    metrics = got.status.occupancy.metrics
    return {"active": got.status.is_active, "subscribers": metrics.subscribers, "members": metrics.presence_members}


async def token(client, params=None):
    got = await clients[client].auth.request_token(params)
    return got.to_dict()


async def burst(client, channel, count, start=0):
    async def one(n):
        try:
            result = await clients[client].channels.get(channel).publish("n", str(n))
            tell(acknowledged=n, client=client, serials=list(result.serials))
        except Exception as error:  # noqa: BLE001
            tell(refused=n, client=client, error=shown(error))

    for n in range(start, start + count):
        asyncio.create_task(one(n))  # noqa: RUF006
    await asyncio.sleep(0)


QUIET = {"connect", "close", "drop", "watch", "burst"}


async def do(line):
    told = json.loads(line)
    name = told.pop("do")
    if "from" in told:
        told["start"] = told.pop("from")
    try:
        answer = await globals()[name](**told)
        if name not in QUIET:
            tell(**{name: answer, "client": told["client"]})
    except Exception as error:  # noqa: BLE001
        tell(**{name: None, "client": told["client"], "error": shown(error) if hasattr(error, "code") else repr(error)})


async def main():
    reader = asyncio.StreamReader(limit=2**22)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        task = asyncio.create_task(do(line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
