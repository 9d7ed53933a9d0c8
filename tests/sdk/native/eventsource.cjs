// EventSource as browsers have it. {"do": "open", "url"}, {"do": "close"}, {"do": "end"}. Words: "node" or "chromium".
// Told: {"ready": true}, {"word": TYPE, "data", "id"}, {"failed": readyState}.
const { createInterface } = require("node:readline");

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");

function follow(url, tell) {
  const source = new EventSource(url);
  for (const word of ["welcome", "event", "join", "leave", "update", "gap"]) {
    source.addEventListener(word, ({ data, lastEventId }) => tell({ word, data: JSON.parse(data), id: lastEventId }));
  }
  source.addEventListener("error", ({ data }) => {
    tell(data ? { word: "error", data: JSON.parse(data) } : { failed: source.readyState });
  });
  globalThis.source = source;
}

// Node 20 has no EventSource, so this reads as one, over fetch.
class FetchedEvents extends EventTarget {
  readyState = 0;
  #abort = new AbortController();
  #id = "";

  constructor(url) {
    super();
    this.#follow(url);
  }

  async #follow(url) {
    while (this.readyState !== 2) {
      try {
        const headers = this.#id ? { "Last-Event-ID": this.#id } : {};
        const answer = await fetch(url, { headers, signal: this.#abort.signal });
        if (answer.status !== 200) return this.#fail(2);
        this.readyState = 1;
        let text = "";
        for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
          const events = (text + part).split("\n\n");
          text = events.pop();
          events.forEach((event) => this.#tell(event));
        }
      } catch {}
      if (this.readyState !== 2) this.#fail(0);
      await new Promise((done) => setTimeout(done, 200));
    }
  }

  #tell(event) {
    const fields = event.split("\n").map((line) => line.match(/^([^:]*): ?(.*)$/s).slice(1));
    const all = (name) => fields.filter(([field]) => field === name).map(([, value]) => value);
    this.#id = all("id").at(-1) ?? this.#id;
    if (all("data").length) {
      const told = new MessageEvent(all("event")[0], { data: all("data").join("\n"), lastEventId: this.#id });
      this.dispatchEvent(told);
    }
  }

  #fail(state) {
    this.readyState = state;
    this.dispatchEvent(new Event("error"));
  }

  close() {
    this.readyState = 2;
    this.#abort.abort();
  }
}

async function chromium() {
  const { page, end } = await require("../browser.cjs")(process.argv[3]);
  await page.exposeFunction("tell", tell);
  await page.addScriptTag({ content: `${follow}` });
  return {
    open: ({ url }) => page.evaluate((url) => follow(url, tell), url),
    close: () => page.evaluate(() => globalThis.source.close()),
    end,
  };
}

async function main() {
  globalThis.EventSource ??= FetchedEvents;
  const here = { open: ({ url }) => follow(url, tell), close: () => globalThis.source.close(), end: () => process.exit() };
  const place = process.argv[2] === "chromium" ? await chromium() : here;
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const command = JSON.parse(line);
    place[command.do](command);
  });
  tell({ ready: true });
}

main();
