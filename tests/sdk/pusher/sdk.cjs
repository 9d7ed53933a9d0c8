// pusher-js clients, Laravel Echo and the vendor's Node server SDK, all as they are, told what to do by lines of JSON.
// argv: port key secret

const readline = require("readline");
const { pathToFileURL } = require("url");
const PusherJs = require("pusher-js");
const Server = require("pusher");

const [port, key, secret] = [Number(process.argv[2]), process.argv[3], process.argv[4]];
const options = { host: "127.0.0.1", port, useTLS: false, timeout: 60000 };
const encryptionMasterKeyBase64 = Buffer.alloc(32, 7).toString("base64");
const server = new Server({ appId: "1001", key, secret, encryptionMasterKeyBase64, ...options });
const clients = new Map();

const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");

// member, user: what the app's own server would sign for this client
function connect({ client, member, user, key: ownKey = key, ...more }) {
  const pusher = new PusherJs(ownKey, {
    cluster: "mt1",
    wsHost: "127.0.0.1",
    wsPort: port,
    forceTLS: false,
    enabledTransports: ["ws"],
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, done) =>
        done(null, server.authorizeChannel(socketId, channelName, member)),
    },
    userAuthentication: {
      customHandler: ({ socketId }, done) => done(null, server.authenticateUser(socketId, user)),
    },
    ...more,
  });
  clients.set(client, pusher);
  pusher.connection.bind("state_change", ({ current }) => tell({ state: current, client }));
  pusher.connection.bind("error", (error) => tell({ error: error.data ?? error.error?.data ?? String(error), client }));
  pusher.user.bind_global((event, data) => tell({ of_user: event, data, client }));
  for (const change of ["online", "offline"]) {
    pusher.user.watchlist.bind(change, ({ user_ids }) => tell({ watched: change, user_ids, client }));
  }
  pusher.connection.bind("message", ({ event }) => event === "pusher:signin_success" && tell({ signed_in: client }));
}

function follow(client, name, channel) {
  channel.bind_global((event, data) => {
    const members = event === "pusher:subscription_succeeded" && channel.members ? shown(channel.members) : undefined;
    tell({ event, channel: name, client, data: members ?? data });
  });
}

function shown(members) {
  const all = {};
  members.each(({ id, info }) => (all[id] = info ?? null));
  return { all, count: members.count, me: members.me };
}

async function echo({ client, broadcaster }) {
  // Its CommonJS build is marked as an ES module, which Node refuses; the ES build is the same code.
  const build = require.resolve("laravel-echo").replace("echo.common.js", "echo.js");
  const { default: Echo } = await import(pathToFileURL(build));
  const made = new Echo({
    broadcaster,
    key,
    Pusher: PusherJs,
    cluster: "mt1",
    wsHost: "127.0.0.1",
    wsPort: port,
    forceTLS: false,
    enabledTransports: ["ws"],
    authorizer: (channel) => ({
      authorize: (socketId, done) =>
        done(null, server.authorizeChannel(socketId, channel.name, { user_id: "ada", user_info: { name: "Ada" } })),
    }),
  });
  made.channel("orders").listen("Shipped", (data) => tell({ echo: "Shipped", data }));
  made.private("orders").listenForWhisper("typing", (data) => tell({ echo: "whisper", data }))
    .subscribed(() => tell({ echo: "subscribed" }));
  made.join("room").here((members) => tell({ echo: "here", data: members }))
    .joining((member) => tell({ echo: "joining", data: member }))
    .leaving((member) => tell({ echo: "leaving", data: member }));
  clients.set(client, made);
}

// What `do` may be.
const verbs = {
  connect,
  echo,
  subscribe: ({ client, channel }) => follow(client, channel, clients.get(client).subscribe(channel)),
  unsubscribe: ({ client, channel }) => clients.get(client).unsubscribe(channel),
  bind: ({ client, channel, event }) =>
    clients.get(client).channel(channel).bind(event, (data, metadata) => tell({ bound: event, data, metadata, client })),
  trigger: ({ client, channel, event, data }) => clients.get(client).channel(channel).trigger(event, data),
  whisper: ({ client, data }) => clients.get(client).private("orders").whisper("typing", data),
  signin: ({ client }) => clients.get(client).signin(),
  members: ({ client, channel }) => tell({ members: shown(clients.get(client).channel(channel).members) }),
  disconnect: ({ client }) => clients.get(client).disconnect(),
  socket_id: ({ client }) => tell({ socket_id: clients.get(client).connection.socket_id }),
  authorize: ({ args }) => tell({ authorize: server.authorizeChannel(...args) }),
  authenticate: ({ args }) => tell({ authenticate: server.authenticateUser(...args) }),
  webhook: ({ headers, body }) => {
    const webhook = server.webhook({ headers, rawBody: body });
    tell({ webhook: webhook.isValid(), data: webhook.isBodyValid() ? webhook.getData() : null });
  },
  server: async ({ call, args }) => {
    try {
      const answer = await server[call](...args);
      tell({ server: answer.status, body: await answer.json() });
    } catch (error) {
      tell({ server: error.status ?? String(error), body: error.body });
    }
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const told = JSON.parse(line);
  verbs[told.do](told);
});
