// pubnub for JavaScript as it is, told what to do by lines of JSON. argv: port, then options of every client in JSON

const readline = require("readline");
const PubNub = require("pubnub");

const [port, common] = [Number(process.argv[2]), JSON.parse(process.argv[3] ?? "{}")];
const clients = new Map();

const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");

function make({ client, user, ...more }) {
  const pubnub = new PubNub({ origin: `127.0.0.1:${port}`, ssl: false, userId: user ?? client, ...common, ...more });
  const { message, signal, presence, action, status } = {
    message: (event) => tell({ message: event.message, client, ...event }),
    signal: (event) => tell({ signal: event.message, client, ...event }),
    presence: (event) => tell({ presence: event.action, client, ...event }),
    action: (event) => tell({ action: event.event, client, ...event }),
    status: (event) => tell({ status: event.category, client, operation: event.operation, error: event.error ?? false }),
  };
  pubnub.addListener({ message, signal, presence, messageAction: action, status });
  clients.set(client, pubnub);
}

// Any call of the SDK: {do: "call", client, method, args}; what it resolves to is told, or its error.
async function call({ client, method, args = [], id }) {
  const target = clients.get(client);
  const [owner, name] = method.includes(".") ? method.split(".") : [null, method];
  const object = owner ? target[owner] : target;
  try {
    tell({ called: method, id, result: (await object[name](...args)) ?? null });
  } catch (error) {
    const { status } = error;
    const { statusCode, category, errorData } = status ?? {};
    tell({ called: method, id, failed: { message: error.message, statusCode, category, errorData } });
  }
}

const actions = {
  make,
  call,
  subscribe: ({ client, ...more }) => clients.get(client).subscribe(more),
  unsubscribe: ({ client, ...more }) => clients.get(client).unsubscribe(more),
  filter: ({ client, expression }) => clients.get(client).setFilterExpression(expression),
  token: ({ client, token }) => clients.get(client).setToken(token),
  disconnect: ({ client }) => clients.get(client).disconnect(),
  reconnect: ({ client, timetoken }) => clients.get(client).reconnect({ timetoken }),
  stop: ({ client }) => clients.get(client).stop(),
  parse: ({ client, token }) => tell({ parsed: clients.get(client).parseToken(token) }),
  // many publishes, one after the other, as fast as they are answered
  async burst({ client, channel, count, word }) {
    for (let n = 0; n < count; n++) {
      for (;;) {
        try {
          await clients.get(client).publish({ channel, message: `${word}-${n}` });
          break;
        } catch {
          await new Promise((done) => setTimeout(done, 100));
        }
      }
    }
    tell({ burst: word });
  },
};

process.on("unhandledRejection", (error) => tell({ crashed: String(error?.stack ?? error) }));
readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { do: action, ...more } = JSON.parse(line);
  await actions[action](more);
});
tell({ ready: true });
