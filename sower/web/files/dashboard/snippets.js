// For each SDK, the lines that make it use this daemon and one channel of it.

import { DAEMON } from "./api.js";

/** [name, code] for each. identity: as the daemon tells it, with the keys that each SDK shows. */
export function snippets(channel, { app, key, others }) {
  const { hostname, port, protocol, pathname } = DAEMON;
  const isSecure = protocol === "https:";
  const at = Number(port || (isSecure ? 443 : 80));
  const name = JSON.stringify(channel);
  const isPrivate = /^(private|presence)-/.test(channel);
  const prefix = pathname.replace(/\/$/, "");
  return [
    [
      "sower.js",
      `import { Sower } from "${DAEMON}sower.js";

const sower = new Sower({ key: "${key}"${isPrivate ? ", token: (channel) => askMyServerForATokenFor(channel)" : ""} });
const channel = sower.subscribe(${name});

channel.on("message", ({ data, user }) => console.log(user, data));
await channel.publish("message", { hello: "world" });`,
    ],
    [
      "pusher-js",
      `import Pusher from "pusher-js";

const pusher = new Pusher("${key}", {
  cluster: "",
  wsHost: "${hostname}",
  wsPort: ${at},
  wssPort: ${at},${prefix ? `\n  wsPath: "${prefix}",` : ""}
  forceTLS: ${isSecure},
  enabledTransports: ["ws", "wss"],${isPrivate ? '\n  channelAuthorization: { endpoint: "/pusher/auth" }, // your own server signs here' : ""}
});

pusher.subscribe(${name}).bind("message", (data) => console.log(data));`,
    ],
    [
      "ably",
      `import * as Ably from "ably";

const ably = new Ably.Realtime({
  endpoint: "${hostname}",
  port: ${at},
  tlsPort: ${at},
  tls: ${isSecure},
  // your own server makes a TokenRequest with the key ${others.ably}:SECRET
  authCallback: (params, done) => askMyServerForAToken(params).then((token) => done(null, token), done),
});

const channel = ably.channels.get(${name});
await channel.subscribe("message", ({ data }) => console.log(data));
await channel.publish("message", { hello: "world" });`,
    ],
    [
      "pubnub",
      `import PubNub from "pubnub";

const pubnub = new PubNub({
  subscribeKey: "${others.subscribe}",
  publishKey: "${others.publish}",
  userId: "ada",
  origin: "${hostname}:${at}",
  ssl: ${isSecure},
});

pubnub.addListener({ message: ({ message }) => console.log(message) });
pubnub.subscribe({ channels: [${name}] });
await pubnub.publish({ channel: ${name}, message: { hello: "world" } });`,
    ],
    [
      "curl",
      `# A server publishes with key and secret; app ${app}
curl -u ${key}:SECRET ${DAEMON}events/publish \\
     -d ${quoted(JSON.stringify({ channel, event: "message", data: { hello: "world" } }))}

# What the channel has kept
curl -u ${key}:SECRET ${quoted(`${DAEMON}history/${encodeURIComponent(channel)}?limit=10&order=desc`)}`,
    ],
  ];
}

/** A word as a shell takes it literally. */
function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
