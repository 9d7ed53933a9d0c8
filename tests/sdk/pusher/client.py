"""Pysher as it is, told what to do by lines of JSON. argv: port key secret"""

import json
import sys
import threading

import pysher

port, key, secret = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def tell(**told: object) -> None:
    print(json.dumps(told), flush=True)


client = pysher.Pusher(
    key,
    secure=False,
    custom_host="127.0.0.1",
    port=port,
    secret=secret,
    user_data={"user_id": "py", "user_info": {"of": "py"}},
)
client.connection.bind("pusher:connection_established", lambda _: tell(established=client.connection.socket_id))
client.connection.bind("pusher:error", lambda data: tell(error=data["code"], message=data["message"]))
client.connection.bind("pusher:pong", lambda _: tell(pong=True))

# Pysher asks for a channel before it knows whom to tell of the answer: what comes meanwhile waits.
subscribing = threading.Lock()
hear = client.connection.event_handler


def hear_in_turn(*event: object) -> None:
    with subscribing:
        hear(*event)


client.connection.event_handler = hear_in_turn

for line in sys.stdin:
    told = json.loads(line)
    if told["do"] == "connect":
        client.connect()
    elif told["do"] == "subscribe":
        with subscribing:
            channel = client.subscribe(told["channel"])
            for event in told["events"]:
                channel.bind(event, lambda data, event=event: tell(event=event, data=data))
    elif told["do"] == "trigger":
        client.channel(told["channel"]).trigger(told["event"], told["data"])
