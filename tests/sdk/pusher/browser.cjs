// pusher-js' build for browsers, as it is, in Chromium. argv: executable, key, page's URL
const fs = require("node:fs");
const { createInterface } = require("node:readline");

const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");
const [executable, key] = process.argv.slice(2);

function connect({ key, port, transports }, tell) {
  const pusher = new Pusher(key, {
    cluster: "mt1", forceTLS: false, enableStats: true, statsHost: `127.0.0.1:${port}`,
    wsHost: "127.0.0.1", wsPort: port, httpHost: "127.0.0.1", httpPort: port, enabledTransports: transports,
  });
  pusher.connection.bind("state_change", ({ current }) =>
    tell({ state: current, transport: pusher.connection.connection?.transport.name }));
  globalThis.pusher = pusher;
}

function subscribe({ channel }, tell) {
  globalThis.pusher.subscribe(channel).bind_global((event, data) => tell({ event, data }));
}

async function main() {
  const { page, end } = await require("../browser.cjs")(executable);
  await page.exposeFunction("tell", tell);
  page.on("response", (answer) => answer.url().includes("/timeline/") && tell({ timeline: answer.status() }));
  await page.addScriptTag({ content: fs.readFileSync(require.resolve("pusher-js/dist/web/pusher.js"), "utf8") });
  await page.addScriptTag({ content: `${connect}; ${subscribe}` });
  const verbs = {
    connect: (told) => page.evaluate((told) => connect(told, tell), { key, ...told }),
    subscribe: (told) => page.evaluate((told) => subscribe(told, tell), told),
    disconnect: () => page.evaluate(() => globalThis.pusher.disconnect()),
    end,
  };
  createInterface({ input: process.stdin }).on("line", (line) => {
    const told = JSON.parse(line);
    verbs[told.do](told);
  });
  tell({ ready: true });
}

main();
