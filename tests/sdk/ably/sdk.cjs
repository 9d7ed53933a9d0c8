// ably-js clients, Realtime and Rest, as they are, told what to do by lines of JSON.
// argv: port key format

const readline = require("readline");
const Ably = require("ably");

const [port, key, format] = [Number(process.argv[2]), process.argv[3], process.argv[4]];
const clients = new Map();

const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");
const shown = (error) => error && { code: error.code, status: error.statusCode, message: error.message };
const data = (value) => (Buffer.isBuffer(value) ? { bytes: value.toString("base64") } : value);
const given = (value) => (value && value.bytes !== undefined ? Buffer.from(value.bytes, "base64") : value);
const message = ({ id, name, data: value, clientId, connectionId, extras, serial, timestamp, encoding, action, version, annotations }) => ({
  id, name, data: data(value), user: clientId, connection: connectionId, extras, serial, timestamp, encoding, action,
  version, summary: annotations?.summary,
});
const annotation = ({ action, type, name, clientId, data: value, count, serial, messageSerial, extras }) => ({
  action, type, name, user: clientId, data: data(value), count, serial, message: messageSerial, extras,
});
async function everyPage(page, show) {
  const pages = [page.items.map(show)];
  while (page.hasNext() && pages.length < 20) {
    page = await page.next();
    pages.push(page.items.map(show));
  }
  return pages;
}
const member = ({ action, clientId, connectionId, data: value, id }) => ({
  action, user: clientId, connection: connectionId, data: data(value), id,
});

const { LiveObjects } = require("ably/liveobjects");

// Where tokens come from: these one after the other, the last again and again, or another client's requests.
function renewal({ issuer, tokens, client, asks }) {
  if (tokens) {
    let times = 0;
    return (params, done) => {
      done(null, tokens[Math.min(times, tokens.length - 1)]);
      tell({ renewals: ++times, client });
    };
  }
  return issuer && ((params, done) => clients.get(issuer).auth.createTokenRequest({ ...asks, ...params }).then(
    (request) => { tell({ renewed: issuer, client }); done(null, request); },
    (error) => done(error, null),
  ));
}

function options({ client, rest, objects, ...more }) {
  const authCallback = renewal({ client, ...more });
  const credential = more.token || more.tokenDetails || more.authUrl || authCallback ? {} : { key: more.key ?? key };
  delete more.issuer;
  delete more.tokens;
  return {
    endpoint: "127.0.0.1",
    port,
    tls: false,
    useBinaryProtocol: format === "msgpack",
    disableConnectivityCheck: true,
    logLevel: 0,
    ...credential,
    ...(authCallback && { authCallback }),
    ...(objects && { plugins: { LiveObjects } }),
    ...more,
  };
}

const does = {
  connect(told) {
    const made = new Ably.Realtime(options(told));
    clients.set(told.client, made);
    made.connection.on((change) => tell({
      state: change.current, event: change.current === change.previous ? "update" : change.current, client: told.client, error: shown(change.reason), id: made.connection.id,
    }));
  },
  rest(told) {
    clients.set(told.client, new Ably.Rest(options(told)));
    return true;
  },
  reconnect: ({ client }) => clients.get(client).connect(),
  close: ({ client }) => clients.get(client).close(),
  // what the network does when it is cut: the socket is gone, and nothing was said
  drop: ({ client }) => clients.get(client).connection.connectionManager.activeProtocol.transport.wsConnection.terminate(),
  // as if the process were gone: no attempt to come back, and no farewell
  vanish({ client }) {
    const manager = clients.get(client).connection.connectionManager;
    const socket = manager.activeProtocol.transport.wsConnection;
    manager.startTransport = manager.requestState = () => {};
    socket.terminate();
  },
  recovery_key: ({ client }) => clients.get(client).connection.createRecoveryKey(),
  async ping({ client }) {
    return await clients.get(client).connection.ping();
  },
  async attach({ client, channel, options }) {
    const got = clients.get(client).channels.get(channel, options);
    if (!got.watched) {
      got.watched = true;
      got.on((change) => tell({
        change: change.current, event: change.event, channel, client, resumed: change.resumed, backlog: change.hasBacklog,
        error: shown(change.reason),
      }));
      got.subscribe((m) => tell({ message: message(m), channel, client })).catch(() => {});
    }
    await got.attach();
    return { modes: got.modes, params: got.params, serial: got.properties.attachSerial };
  },
  async set_options({ client, channel, options }) {
    await clients.get(client).channels.get(channel).setOptions(options);
    return true;
  },
  async detach({ client, channel }) {
    await clients.get(client).channels.get(channel).detach();
    return true;
  },
  async publish({ client, channel, messages }) {
    const sent = messages.map((m) => ({ ...m, data: given(m.data) }));
    return await clients.get(client).channels.get(channel).publish(sent.length === 1 ? sent[0] : sent);
  },
  // all at once, each told when it is acknowledged
  burst({ client, channel, from = 0, count }) {
    for (let n = from; n < from + count; n++) {
      clients.get(client).channels.get(channel).publish("n", String(n)).then(
        (result) => tell({ acknowledged: n, client, serials: result?.serials }),
        (error) => tell({ refused: n, client, error: shown(error) }),
      );
    }
  },
  async history({ client, channel, params }) {
    return await everyPage(await clients.get(client).channels.get(channel).history(params), message);
  },
  async get_message({ client, channel, serial }) {
    return message(await clients.get(client).channels.get(channel).getMessage(serial));
  },
  // how: update, delete or append
  async edit({ client, channel, how, message: sent, operation }) {
    const to = clients.get(client).channels.get(channel);
    return (await to[`${how}Message`]({ ...sent, data: given(sent.data) }, operation)).versionSerial;
  },
  async versions({ client, channel, serial, params }) {
    return await everyPage(await clients.get(client).channels.get(channel).getMessageVersions(serial, params), message);
  },
  // how: publish or delete
  async annotate({ client, channel, how = "publish", serial, annotation: sent }) {
    await clients.get(client).channels.get(channel).annotations[how](serial, { ...sent, data: given(sent.data) });
    return true;
  },
  async annotations({ client, channel, serial, params }) {
    return await everyPage(await clients.get(client).channels.get(channel).annotations.get(serial, params), annotation);
  },
  async listen({ client, channel }) {
    await clients.get(client).channels.get(channel).annotations.subscribe(
      (a) => tell({ annotation: annotation(a), channel, client }),
    );
    return true;
  },
  watch({ client, channel }) {
    clients.get(client).channels.get(channel).presence.subscribe((m) => tell({ presence: member(m), channel, client }));
  },
  async enter({ client, channel, user, data: value }) {
    const presence = clients.get(client).channels.get(channel).presence;
    await (user === undefined ? presence.enter(given(value)) : presence.enterClient(user, given(value)));
    return true;
  },
  async update({ client, channel, data: value }) {
    await clients.get(client).channels.get(channel).presence.update(given(value));
    return true;
  },
  async leave({ client, channel, data: value }) {
    await clients.get(client).channels.get(channel).presence.leave(given(value));
    return true;
  },
  async members({ client, channel, params }) {
    const got = await clients.get(client).channels.get(channel).presence.get(params);
    return (got.items ?? got).map(member);
  },
  async presence_history({ client, channel, params }) {
    return (await clients.get(client).channels.get(channel).presence.history(params)).items.map(member);
  },
  async authorize({ client, params, options: more }) {
    const { capability, clientId, expires, issued, keyName } = await clients.get(client).auth.authorize(params, more);
    return { capability, clientId, lives: expires - issued, keyName };
  },
  async token({ client, params }) {
    return await clients.get(client).auth.requestToken(params);
  },
  // any method of a client: path names it, from the client on
  async call({ client, path, args = [] }) {
    const names = path.split(".");
    const last = names.pop();
    const owner = names.reduce((at, name) => at[name], clients.get(client));
    return (await owner[last](...args)) ?? null;
  },
  async derived({ client, channel, filter }) {
    await clients.get(client).channels.getDerived(channel, { filter }).attach();
    return true;
  },
  async objects({ client, channel, options }) {
    const got = clients.get(client).channels.get(channel, options);
    const root = await got.object.get();
    await root.set("a", 1);
    return true;
  },
  time: ({ client }) => clients.get(client).time(),
  async status({ client, channel }) {
    return await clients.get(client).channels.get(channel).status();
  },
  async batch_publish({ client, specs }) {
    return await clients.get(client).batchPublish(specs);
  },
  async batch_presence({ client, channels }) {
    const { successCount, failureCount, results } = await clients.get(client).batchPresence(channels);
    return { successCount, failureCount, results: results.map((r) => ({ ...r, presence: r.presence?.map(member) })) };
  },
  async revoke({ client, specifiers, options: more }) {
    return await clients.get(client).auth.revokeTokens(specifiers, more);
  },
  async stats({ client }) {
    return (await clients.get(client).stats()).items;
  },
  async request({ client, method, path, params }) {
    const got = await clients.get(client).request(method, path, 3, params);
    return { status: got.statusCode, items: got.items, errorCode: got.errorCode };
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { do: name, ...told } = JSON.parse(line);
  try {
    const answer = await does[name](told);
    if (answer !== undefined || !["connect", "reconnect", "close", "drop", "vanish", "burst", "watch"].includes(name)) {
      tell({ [name]: answer ?? null, client: told.client });
    }
  } catch (error) {
    tell({ [name]: null, client: told.client, error: shown(error) ?? String(error) });
  }
});
process.stdin.on("end", () => process.exit());
