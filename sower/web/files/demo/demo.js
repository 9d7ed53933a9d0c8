// Two panes of one page, each with a connection of its own, on the channel "demo": what people say, draw and point at.

import { Sower } from "../sower.js";

const NAMES = [
  "Ada",
  "Ben",
  "Cleo",
  "Dov",
  "Edda",
  "Finn",
  "Gita",
  "Hugo",
  "Ines",
  "Jon",
  "Kaya",
  "Lev",
  "Mina",
  "Noor",
  "Otto",
  "Pia",
];
const TINTS = ["#2f5fb3", "#a3315f", "#2b7350", "#8a4a1f", "#6a48b0", "#0f6f7a", "#7d5a10", "#4a5a6a"];
const TOGETHER = 125; // ms: 8 events a second, below the 10 that limits.client_events allows
const MOST_LINES = 200;

class Pane {
  #channel;
  #name;
  #root;
  #pen;
  #lines;
  #seen = new Set();
  #cursors = new Map();
  #gathered = { points: [], at: null };
  #last = null;

  constructor(name) {
    this.#name = name;
    this.#root = document.getElementById("pane").content.cloneNode(true).firstElementChild;
    this.#find("h2").textContent = name;
    this.#lines = this.#find(".talk");
    document.getElementById("panes").append(this.#root);
    this.#prepareBoard();
    this.#find("form").addEventListener("submit", (event) => this.#say(event));
    this.#connect();
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }

  #connect() {
    const channel = (this.#channel = new Sower({ user: this.#name }).subscribe("demo"));
    channel.onAny((event) => this.#show(event));
    for (const what of ["join", "leave", "update"]) channel.observe(what, () => this.#showPeople());
    channel.observe("join", ({ user }) => user !== this.#name && this.#note(`${user} is here`));
    channel.observe("leave", ({ user }) => {
      this.#note(`${user} has gone`);
      this.#cursors.get(user)?.remove();
      this.#cursors.delete(user);
    });
    channel.observe("gap", () => this.#note("Some of it is no longer kept."));
    channel.observe("error", (error) => this.#note(`${error.message} ${error.hint ?? ""}`));
    channel.observe("state", (state) => {
      this.#find(".dot").className = `dot ${state}`;
      this.#find(".word").textContent = { open: "connected", waiting: "coming back", closed: "ended" }[state] ?? state;
      if (state === "open" && !this.#seen.size) this.#recall();
    });
  }

  /** What was drawn and said before this pane came. */
  async #recall() {
    const { events } = await this.#channel.history({ limit: 1000 });
    for (const event of events.reverse()) this.#show(event, true);
  }

  #show({ event, data, user, serial }, isPast = false) {
    if (this.#seen.has(serial)) return;
    if (event === "draw") this.#draw(data.points, user);
    else if (event === "cursor" && !isPast) this.#point(user, data);
    else if (event !== "cursor")
      this.#write(
        user === this.#name && isPast ? "" : (user ?? event),
        typeof data === "string" ? data : JSON.stringify(data),
      );
    if (event !== "cursor") this.#seen.add(serial);
  }

  #showPeople() {
    const people = [...this.#channel.members.keys()].sort();
    this.#find(".people").replaceChildren(
      ...people.map((user) => {
        const item = document.createElement("li");
        item.textContent = user.slice(0, 1);
        item.title = user;
        item.style.setProperty("--tint", tint(user));
        return item;
      }),
    );
  }

  // What is said

  #say(event) {
    event.preventDefault();
    const field = event.target.elements.text;
    const text = field.value.trim();
    if (!text) return;
    field.value = "";
    this.#write("", text);
    this.#channel.publish("say", text).catch((error) => this.#note(error.message));
  }

  #write(from, text) {
    const line = document.createElement("li");
    line.className = from ? "" : "own";
    if (from) {
      const name = document.createElement("b");
      name.textContent = from;
      line.append(name);
    }
    line.append(text);
    this.#append(line);
  }

  #note(text) {
    const line = document.createElement("li");
    line.className = "note";
    line.textContent = text;
    this.#append(line);
  }

  #append(line) {
    this.#lines.append(line);
    if (this.#lines.children.length > MOST_LINES) this.#lines.firstElementChild.remove();
    this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  // What is drawn. Places are parts of the board's width and height.

  #prepareBoard() {
    const canvas = this.#find("canvas");
    this.#pen = canvas.getContext("2d");
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", () => (this.#last = null));
  }

  #move(event) {
    const box = event.target.getBoundingClientRect();
    const at = [round((event.clientX - box.left) / box.width), round((event.clientY - box.top) / box.height)];
    if (event.buttons) {
      this.#draw(this.#last ? [this.#last, at] : [at], this.#name);
      if (!this.#gathered.points.length && this.#last) this.#gathered.points.push(this.#last);
      this.#gathered.points.push(at);
      this.#last = at;
    }
    if (!this.#gathered.at) setTimeout(() => this.#tell(), TOGETHER);
    this.#gathered.at = at;
  }

  /** Many small movements are one event. */
  #tell() {
    const { points, at } = this.#gathered;
    this.#gathered = { points: [], at: null };
    const told = points.length ? this.#channel.publish("draw", { points }) : this.#channel.publish("cursor", at);
    told.catch(() => {}); // a movement that is lost is not missed
  }

  #draw(points, user) {
    const { width, height } = this.#pen.canvas;
    const line = new Path2D();
    points.forEach(([x, y], index) =>
      index ? line.lineTo(x * width, y * height) : line.moveTo(x * width, y * height),
    );
    this.#pen.strokeStyle = tint(user ?? "");
    this.#pen.lineWidth = 3 * devicePixelRatio;
    this.#pen.lineCap = this.#pen.lineJoin = "round";
    this.#pen.stroke(line);
    this.#find(".hint").hidden = true;
    if (user !== this.#name && points.length) this.#point(user, points.at(-1));
  }

  #point(user, [x, y]) {
    let cursor = this.#cursors.get(user);
    if (!cursor) {
      this.#cursors.set(user, (cursor = document.createElement("div")));
      cursor.textContent = user;
      cursor.style.setProperty("--tint", tint(user));
      this.#find(".cursors").append(cursor);
    }
    const board = this.#find(".board");
    cursor.style.translate = `${x * board.clientWidth}px ${y * board.clientHeight}px`;
  }
}

const round = (part) => Math.round(part * 10_000) / 10_000;

/** A colour for a name, always the same one. White text reads well on each. */
function tint(name) {
  const sum = [...name].reduce((total, letter) => total * 31 + letter.codePointAt(0), 7);
  return TINTS[sum % TINTS.length];
}

function twoNames() {
  const kept = sessionStorage.getItem("sower-demo-names");
  if (kept) return JSON.parse(kept);
  const first = Math.floor(Math.random() * NAMES.length);
  const names = [NAMES[first], NAMES[(first + 1 + Math.floor(Math.random() * (NAMES.length - 1))) % NAMES.length]];
  sessionStorage.setItem("sower-demo-names", JSON.stringify(names));
  return names;
}

const here = new URL(".", new URL("..", import.meta.url));
document.getElementById("code").textContent = `import { Sower } from "${here}sower.js";

const channel = new Sower({ user: "Ada" }).subscribe("demo");

channel.on("say", ({ data, user }) => console.log(user, data));
channel.observe("join", ({ user }) => console.log(user, "is here"));
await channel.publish("say", "hello");`;
document.getElementById("curl").textContent =
  `curl -u KEY:SECRET ${here}events/publish -d '{"channel": "demo", "event": "say", "data": "hello"}'`;

for (const name of twoNames()) new Pane(name);
