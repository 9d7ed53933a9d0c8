// A native client on Node's `ws`, which shares no code with Sower. Driven by lines of JSON on stdin:
// {"do": "open", "url", "options"}, {"do": "send", "frame"}, {"do": "raw", "parts"}, {"do": "ping"}, {"do": "close", "code"}.
// Everything that happens is told as a line of JSON on stdout.
import { createInterface } from "node:readline";
import WebSocket from "ws";

let socket;
const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const commands = {
  open({ url, options }) {
    socket = new WebSocket(url, ["sower.v1"], options ?? {});
    socket.on("open", () => tell({ opened: socket.protocol, extensions: socket.extensions }));
    socket.on("message", (data, isBinary) => tell({ message: JSON.parse(data.toString()), isBinary }));
    socket.on("ping", () => tell({ pinged: true }));
    socket.on("pong", (data) => tell({ pong: data.toString() }));
    socket.on("close", (code, reason) => tell({ closed: code, reason: reason.toString() }));
    socket.on("error", (error) => tell({ error: String(error.message) }));
  },
  send: ({ frame }) => socket.send(JSON.stringify(frame)),
  raw({ parts }) {
    parts.forEach((part, at) => socket.send(part, { fin: at === parts.length - 1, binary: false }));
  },
  ping: ({ data }) => socket.ping(data),
  close: ({ code }) => socket.close(code, "enough"),
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
