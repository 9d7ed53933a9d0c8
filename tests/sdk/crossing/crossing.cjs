// pusher-js, ably-js, pubnub and sower.js in one process on one channel, told what to do by lines of JSON.
// argv: a port for each client, or one for all, the channel, and in JSON the keys, a native token, and sower.js' file

const readline = require("readline");
const PusherJs = require("pusher-js");
const PusherServer = require("pusher");
const Ably = require("ably");
const PubNub = require("pubnub");

const [ports, channel, given] = [process.argv[2].split(",").map(Number), process.argv[3], JSON.parse(process.argv[4])];
const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");
const heard = { pusher: [], ably: [], pubnub: [], native: [] };
const hear = (who, { from, n }) => heard[who].push(`${from}-${n}`);
const later = (ms) => new Promise((done) => setTimeout(done, ms));

const clients = {
  async pusher(port) {
    const { key, secret } = given.app;
    const host = { host: "127.0.0.1", port, useTLS: false, timeout: 60000 };
    const server = new PusherServer({ appId: "1001", key, secret, ...host });
    const sdk = new PusherJs(key, {
      cluster: "mt1", wsHost: "127.0.0.1", wsPort: port, forceTLS: false, enabledTransports: ["ws"],
      channelAuthorization: {
        customHandler: ({ socketId, channelName }, done) =>
          done(null, server.authorizeChannel(socketId, channelName, { user_id: "pusher" })),
      },
    });
    const room = sdk.subscribe(channel);
    room.bind("said", (data) => hear("pusher", data));
    room.bind("message", (data) => hear("pusher", data)); // PubNub's messages have no name
    room.bind("pusher:subscription_error", (error) => tell({ failed: "pusher", error }));
    await new Promise((done) => room.bind("pusher:subscription_succeeded", done));
    const here = () => { const users = []; room.members.each(({ id }) => users.push(id)); return users; };
    return { say: (data) => server.trigger(channel, "said", data), here, leave: () => sdk.unsubscribe(channel) };
  },
  async ably(port) {
    const sdk = new Ably.Realtime({
      key: given.ably, endpoint: "127.0.0.1", port, tls: false, useBinaryProtocol: false, clientId: "ably",
      disableConnectivityCheck: true, logLevel: 0, disconnectedRetryTimeout: 500, suspendedRetryTimeout: 1000,
    });
    const room = sdk.channels.get(channel);
    await room.subscribe(({ data }) => hear("ably", typeof data === "string" ? JSON.parse(data) : data));
    await room.presence.enter();
    const here = async () => (await room.presence.get()).map(({ clientId }) => clientId);
    return { say: (data) => room.publish("said", data), here, leave: () => room.presence.leave() };
  },
  async pubnub(port) {
    const { secretKey, ...keys } = given.pubnub;
    const options = { origin: `127.0.0.1:${port}`, ssl: false, userId: "pubnub", ...keys };
    const allowed = { read: true, write: true };
    const resources = { channels: { [channel]: allowed, [`${channel}-pnpres`]: allowed } };
    const token = await new PubNub({ ...options, secretKey }).grantToken({ ttl: 60, resources });
    const sdk = new PubNub(options);
    sdk.setToken(token);
    const status = new Promise((done) => {
      sdk.addListener({
        message: ({ message }) => hear("pubnub", message),
        status: ({ category }) => category === "PNConnectedCategory" && done(),
      });
    });
    sdk.subscribe({ channels: [channel] });
    await status;
    const here = async () => (await sdk.hereNow({ channels: [channel] })).channels[channel].occupants.map(({ uuid }) => uuid);
    const leave = () => sdk.unsubscribe({ channels: [channel] });
    return { say: (message) => sdk.publish({ channel, message }), here, leave };
  },
  async native(port) {
    const { Sower } = await import(given.library);
    const { key } = given.app;
    const sdk = new Sower({ url: `http://127.0.0.1:${port}`, key, token: given.token, WebSocket: require("ws") });
    const room = sdk.subscribe(channel);
    room.onAny(({ data }) => hear("native", typeof data === "string" ? JSON.parse(data) : data));
    while (room.state !== "open") await later(10);
    const here = () => [...room.members.keys()];
    return { say: (data) => room.publish("said", data, { echo: true }), here, leave: () => room.close() };
  },
};

const ready = {};

async function say(who, first, count, pause) {
  for (let n = first; n < first + count; n++) {
    for (;;) {
      try {
        await ready[who].say({ from: who, n });
        break;
      } catch {
        await later(50); // it was killed; whatever was accepted before is said twice then, and heard twice
      }
    }
    if (pause) await later(pause);
    if (who === "pusher" && n === count / 2 - 1) tell({ half: true });
  }
}

const actions = {
  async join() {
    for (const [at, who] of Object.keys(clients).entries()) ready[who] = await clients[who](ports[at % ports.length]);
    tell({ joined: true });
  },
  async here() {
    const here = {};
    for (const who of Object.keys(ready)) here[who] = (await ready[who].here()).sort();
    tell({ here });
  },
  async say({ first = 0, count, pause = 0 }) {
    await Promise.all(Object.keys(clients).map((who) => say(who, first, count, pause)));
    tell({ said: true });
  },
  async leave({ who }) {
    await ready[who].leave();
    delete ready[who];
    tell({ left: who });
  },
  heard: () => tell({ heard }),
};

process.on("unhandledRejection", () => {}); // what a killed daemon leaves of calls that the SDKs made themselves
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { do: action, ...more } = JSON.parse(line);
  actions[action](more);
});
tell({ ready: true });
