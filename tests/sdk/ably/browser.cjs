// ably-js in a page of Chromium, which is of another origin than the daemon: it connects, publishes, reads history.
// argv: port key chromium

const { createServer } = require("node:http");
const { readFileSync } = require("node:fs");
const { dirname, join } = require("node:path");
const browser = require("../browser.cjs");

const [port, key, chromium] = process.argv.slice(2);
const script = readFileSync(join(dirname(require.resolve("ably")), "ably.min.js"));
const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");

const site = createServer((request, response) => {
  const isScript = request.url === "/ably.js";
  response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
  response.end(isScript ? script : '<script src="/ably.js"></script>');
});

async function inPage([port, key]) {
  const ably = new Ably.Realtime({
    key, endpoint: "127.0.0.1", port: Number(port), tls: false, disableConnectivityCheck: true, clientId: "page",
  });
  const channel = ably.channels.get("room");
  const got = new Promise((resolve) => channel.subscribe("e", resolve));
  await channel.attach();
  await channel.presence.enter("here");
  await channel.publish("e", { from: "a page" });
  const message = await got;
  const [newest] = (await channel.history()).items;
  const members = await channel.presence.get();
  const missing = await channel.history({ limit: 5000 }).then(() => 0, (error) => error.code);
  ably.close();
  const polling = new Ably.Realtime({
    key, endpoint: "127.0.0.1", port: Number(port), tls: false, disableConnectivityCheck: true, transports: ["xhr_polling"],
  });
  const declined = await new Promise((resolve) => polling.connection.once(["disconnected", "failed"], resolve));
  polling.close();
  return { data: message.data, same: newest.serial === message.serial, members: members.map((m) => m.clientId), missing, declined: declined.reason.code };
}

site.listen(0, "127.0.0.1", async () => {
  const { page, end } = await browser(chromium);
  process.stdin.on("end", end).resume();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  tell({ page: await page.evaluate(inPage, [port, key]) });
});
