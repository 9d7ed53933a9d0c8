// sower.js in Node: argv[2] is its file, argv[3] "global" for Node's own WebSocket or "ws" for the package's.
// {"do": "run", "code", "with"} tells what the expression or function comes to.
const { createInterface } = require("node:readline");

const [file, kind] = process.argv.slice(2);
const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const loaded = import(file).then(({ Sower, SowerError }) => {
  const given = kind === "ws" ? { WebSocket: require("ws") } : {};
  Object.assign(globalThis, {
    SowerError,
    Sower: class extends Sower {
      constructor(options) {
        super({ ...given, ...options });
      }
    },
  });
});

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { call, code, with: given } = JSON.parse(line);
  try {
    await loaded;
    const value = await (0, eval)(
      `(async () => { const value = (${code}); return typeof value === "function" ? await value(${JSON.stringify(given ?? null)}) : await value; })()`,
    );
    tell({ call, value: value ?? null });
  } catch (error) {
    tell({ call, value: null, failed: String(error.stack) });
  }
});
