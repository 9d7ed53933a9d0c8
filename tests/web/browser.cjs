// Debian's Chromium, driven by lines of JSON on stdin. Each line has a `call` that its answer repeats.
// {"do": "open", "page", "url", "width", "height", "scheme"}  a page of its own profile, heard for whatever goes wrong in it
// {"do": "run", "page", "code", "with"}                        what the expression or function comes to
// {"do": "until", "page", "code", "with"}                      the same, asked again until it is truthy
// {"do": "act", "page", "how", "words"}                        a method of playwright's page: click, fill, press, ...
// {"do": "offline", "page", "offline"}                         its network goes or comes
// {"do": "quit"}                                               the browser ends
// {"do": "axe", "page"}                                        what axe-core finds serious or worse
const { readFileSync } = require("node:fs");
const { createInterface } = require("node:readline");
const { chromium } = require("playwright-core");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const pages = {};
let browser;

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const evaluate = ({ page, code, with: given }) =>
  pages[page].evaluate(
    `(async () => { const value = (${code}); return typeof value === "function" ? await value(${JSON.stringify(given ?? null)}) : await value; })()`,
  );

const commands = {
  async open({ page: name, url, width = 1280, height = 860, scheme = "light" }) {
    browser ??= await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS, handleSIGTERM: false });
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
    const page = (pages[name] = await context.newPage());
    page.on(
      "console",
      (message) =>
        ["error", "warning"].includes(message.type()) &&
        tell({ wrong: message.text(), page: name, at: message.location().url }),
    );
    page.on("pageerror", (error) => tell({ wrong: String(error.stack), page: name }));
    page.on("dialog", (dialog) => {
      tell({ wrong: `a dialog: ${dialog.message()}`, page: name });
      dialog.dismiss();
    });
    page.setDefaultTimeout(50000);
    const answer = await page.goto(url);
    return { status: answer.status(), headers: answer.headers() };
  },
  run: (command) => evaluate(command),
  async until(command) {
    const end = Date.now() + 50000;
    for (;;) {
      const value = await evaluate(command).catch((error) => {
        if (Date.now() > end) throw error;
      });
      if (value || Date.now() > end) return value;
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
  },
  act: ({ page, how, words }) =>
    how
      .split(".")
      .reduce(([, it], name) => [it, it[name]], [null, pages[page]])
      .reverse()
      .reduce((method, self) => method.apply(self, words)),
  offline: ({ page, offline }) => pages[page].context().setOffline(offline),
  quit: () => browser?.close(),
  async axe({ page }) {
    await pages[page].evaluate(AXE);
    const { violations } = await pages[page].evaluate(() => window.axe.run());
    return violations
      .filter(({ impact }) => ["serious", "critical"].includes(impact))
      .map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html + " " + n.failureSummary).join(" | ")}`);
  },
};

createInterface({ input: process.stdin }).on("line", async (line) => {
  const command = JSON.parse(line);
  try {
    tell({ call: command.call, value: (await commands[command.do](command)) ?? null });
  } catch (error) {
    tell({ call: command.call, value: null, failed: String(error.message) });
  }
});
