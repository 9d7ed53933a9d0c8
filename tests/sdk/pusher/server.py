"""The vendor's Python server SDK as it is, told what to call by lines of JSON. argv: port key secret"""

import json
import sys

import pusher

port, key, secret = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = pusher.Pusher(
    app_id="1001",
    key=key,
    secret=secret,
    host="127.0.0.1",
    port=port,
    ssl=False,
    encryption_master_key_base64="BwcH" * 10 + "Bwc=",
)

for line in sys.stdin:
    told = json.loads(line)
    if told["do"] == "call":
        try:
            answer = {"call": "done", "answer": getattr(client, told["name"])(*told["args"])}
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is told
            answer = {"call": type(error).__name__, "answer": str(error)}
        print(json.dumps(answer, default=lambda raw: raw.decode()), flush=True)
