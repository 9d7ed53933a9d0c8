// Who is connected, and one of them looked at closely: what it follows, what waits for it, and its frames as they pass.

import { API, get, part, remove, repeatedly } from "./api.js";
import { bytes, count, empty, h, span, timeOf } from "./dom.js";
import { list } from "./list.js";

const EVERY = 3; // s
const MOST = 1000; // sessions that the daemon lists at once
const MOST_FRAMES = 500; // frames that are kept in the page

export function sessions(place, { signal, failed }) {
  let all = [];
  let order = "backlog";
  let loaded = false;
  const search = h("input", {
    type: "search",
    placeholder: "Search by id, user, address or channel",
    "aria-label": "Search sessions",
    spellcheck: false,
    oninput: show,
  });
  const found = h("span", { class: "soft small", role: "status" });
  const table = list({
    label: "Sessions",
    columns: [
      { name: "Session", cell: ({ session: id }) => id, class: "wide" },
      { name: "User", cell: ({ user }) => user ?? "", class: "wide narrow-off" },
      { name: "Dialect", cell: ({ dialect }) => dialect, class: "short" },
      {
        name: "Follows",
        cell: ({ channels, subscriptions }) => (subscriptions === 1 ? channels[0] : `${count(subscriptions)} channels`),
        class: "wide narrow-off",
      },
      { name: "Silent for", key: "silence", cell: ({ silent }) => span(silent), class: "number narrow-off" },
      {
        name: "State",
        key: "backlog",
        cell: ({ backlog, state }) =>
          h("span", { class: backlog ? "warn" : "" }, backlog ? `${bytes(backlog)} wait` : state),
        class: "number",
      },
    ],
    open: ({ session: id }) => `#/session/${part(id)}`,
    sorted: () => ({ key: order, down: true }),
    onsort(key) {
      order = key;
      look().catch(failed);
    },
    none: () =>
      !loaded
        ? empty("Looking…", "")
        : search.value
          ? empty("Nobody fits that", "The search looks at what is listed.")
          : empty("Nobody is connected", "Clients of all protocols are listed here, those first for whom most waits."),
  });

  function show() {
    const wanted = search.value.trim().toLowerCase();
    const rows = wanted
      ? all.filter(({ session: id, user, address, channels }) =>
          [id, user, address, ...channels].some((text) => text?.toLowerCase().includes(wanted)),
        )
      : all;
    if (wanted && loaded) found.textContent = `${count(rows.length)} of the ${count(all.length)} listed`;
    table.show(rows);
  }

  async function look() {
    const told = await get("sessions", { limit: MOST, order });
    if (signal.aborted) return;
    all = told.sessions;
    loaded = true;
    found.textContent =
      told.count > all.length ? `${count(told.count)}, the first ${count(all.length)} by ${order}` : count(told.count);
    show();
  }

  place.append(
    h(
      "div",
      { class: "row wrap" },
      h("h1", {}, "Sessions"),
      found,
      h("span", { class: "fill" }),
      h("div", { class: "search" }, search),
    ),
    table.element,
  );
  table.show([]);
  repeatedly(EVERY, look, signal, failed);
}

export function session(place, context) {
  const id = context.argument;
  const facts = h("dl", { class: "facts" });
  const kick = h("button", { type: "button", class: "danger", onclick: end }, "End this connection");
  let sure = false;

  place.append(
    h("p", { class: "small" }, h("a", { href: "#/sessions" }, "Sessions")),
    h("div", { class: "row wrap heading" }, h("h1", { class: "mono break" }, id), h("span", { class: "fill" }), kick),
    h("section", { class: "card pad" }, h("h2", {}, "What it is"), facts),
    h("section", { class: "card pad" }, frames(id, context)),
  );

  async function look() {
    const { sessions: listed } = await get("sessions", { limit: 1, session: id });
    const found = listed.find(({ session: each }) => each === id);
    if (context.signal.aborted) return;
    if (!found) {
      facts.replaceChildren(empty("It is not connected any more", "Activity says when and why it ended."));
      kick.hidden = true;
      return;
    }
    const rows = [
      ["Dialect", found.dialect],
      ["User", found.user ?? "nobody in particular"],
      ["Address", found.address],
      ["State", found.state],
      ["Backlog", bytes(found.backlog)],
      ["Silent for", span(found.silent)],
    ];
    const followed = found.channels
      .flatMap((name) => [h("a", { href: `#/channel/${part(name)}`, class: "break" }, name), ", "])
      .slice(0, -1);
    const more = found.subscriptions - found.channels.length;
    facts.replaceChildren(
      ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "break" }, value))),
      h(
        "div",
        { class: "whole" },
        h("dt", {}, "Follows"),
        h("dd", {}, followed.length ? followed : "nothing", more > 0 ? ` and ${count(more)} more` : ""),
      ),
    );
  }

  async function end() {
    if (!sure) {
      sure = true;
      kick.textContent = "Its client may come back. End it?";
      setTimeout(() => {
        sure = false;
        kick.textContent = "End this connection";
      }, 4000);
      return;
    }
    await remove(`sessions/${part(id)}`).catch(context.failed);
    look().catch(context.failed);
  }

  repeatedly(EVERY, look, context.signal, context.failed);
}

/** The debug console: raw frames while it is open. The daemon masks secrets, and notes in the audit who watched whom. */
function frames(id, { signal, tell }) {
  const lines = h("ol", { class: "events frames", "aria-label": "Frames" });
  const nothing = h(
    "div",
    {},
    empty(
      "Frames are not watched",
      "While they are, every frame to and from this client is shown here. The audit notes who watched.",
    ),
  );
  const button = h("button", { type: "button", class: "primary", onclick: toggle }, "Watch its frames");
  const pause = h("button", { type: "button", hidden: true, "aria-pressed": "false", onclick: hold }, "Pause");
  const filter = h("input", {
    type: "search",
    placeholder: "Filter frames",
    "aria-label": "Filter frames",
    oninput: apply,
  });
  let socket = null;
  let paused = false;
  signal.addEventListener("abort", () => socket?.close());

  function toggle() {
    if (socket) {
      socket.close();
      return;
    }
    const address = new URL(`frames/${part(id)}`, API);
    address.protocol = address.protocol.replace("http", "ws");
    socket = new WebSocket(address, "sower.v1");
    socket.onmessage = ({ data }) => hear(JSON.parse(data));
    socket.onclose = () => {
      socket = null;
      button.textContent = "Watch its frames";
      pause.hidden = true;
    };
    button.textContent = "Stop watching";
    pause.hidden = false;
  }
  function hear(frame) {
    if (frame.type === "watching")
      nothing.replaceChildren(empty("Watching", "Nothing has passed yet. A ping goes to silent clients now and then."));
    if (frame.type === "error") tell(`${frame.message} ${frame.hint}`);
    if (frame.type !== "frame" || paused) return;
    nothing.hidden = true;
    const line = h(
      "li",
      { class: frame.from === "client" ? "in" : "out" },
      timeOf(frame.time),
      h(
        "span",
        { class: "way", title: `from the ${frame.from}` },
        frame.from === "client" ? "→" : "←",
        h("span", { class: "out-of-sight" }, ` from the ${frame.from}`),
      ),
      h("span", { class: "soft" }, frame.kind),
      h("code", { class: "data break" }, frame.text),
      h("span", { class: "soft number" }, bytes(frame.bytes)),
    );
    line.hidden = !fits(line);
    lines.prepend(line);
    if (lines.children.length > MOST_FRAMES) lines.lastElementChild.remove();
  }
  function hold() {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    pause.textContent = paused ? "Resume" : "Pause";
  }
  function fits(line) {
    return line.textContent.toLowerCase().includes(filter.value.trim().toLowerCase());
  }
  function apply() {
    for (const line of lines.children) line.hidden = !fits(line);
  }
  return h(
    "div",
    {},
    h(
      "div",
      { class: "row wrap tools" },
      h("h2", {}, "Debug console"),
      h("span", { class: "fill" }),
      h("div", { class: "search" }, filter),
      pause,
      button,
    ),
    nothing,
    lines,
  );
}
