// Who is connected, and one of them looked at closely: what it follows, and what waits for it.

import { get, part, remove, repeatedly } from "./api.js";
import { bytes, count, empty, h, span } from "./dom.js";
import { list } from "./list.js";

const EVERY = 3; // s
const MOST = 1000; // sessions that the daemon lists at once

export function sessions(place, { signal, failed }) {
  let all = [];
  let order = "backlog";
  let loaded = false;
  const search = h("input", { type: "search", placeholder: "Search by id, user, address or channel", "aria-label": "Search sessions", spellcheck: false, oninput: show });
  const found = h("span", { class: "soft small", role: "status" });
  const table = list({
    label: "Sessions",
    columns: [
      { name: "Session", cell: ({ session: id }) => id, class: "wide" },
      { name: "User", cell: ({ user }) => user ?? "", class: "wide narrow-off" },
      { name: "Dialect", cell: ({ dialect }) => dialect, class: "short" },
      { name: "Follows", cell: ({ channels, subscriptions }) => (subscriptions === 1 ? channels[0] : `${count(subscriptions)} channels`), class: "wide narrow-off" },
      { name: "Silent for", key: "silence", cell: ({ silent }) => span(silent), class: "number narrow-off" },
      { name: "State", key: "backlog", cell: ({ backlog, state }) => h("span", { class: backlog ? "warn" : "" }, backlog ? `${bytes(backlog)} wait` : state), class: "number" },
    ],
    open: ({ session: id }) => `#/session/${part(id)}`,
    sorted: () => ({ key: order, down: true }),
    onsort(key) {
      order = key;
      look().catch(failed);
    },
    none: () => (!loaded ? empty("Looking…", "") : search.value ? empty("Nobody fits that", "The search looks at what is listed.") : empty("Nobody is connected", "Clients of all protocols are listed here, those first for whom most waits.")),
  });

  function show() {
    const wanted = search.value.trim().toLowerCase();
    const rows = wanted ? all.filter(({ session: id, user, address, channels }) => [id, user, address, ...channels].some((text) => text?.toLowerCase().includes(wanted))) : all;
    if (wanted && loaded) found.textContent = `${count(rows.length)} of the ${count(all.length)} listed`;
    table.show(rows);
  }

  async function look() {
    const told = await get("sessions", { limit: MOST, order });
    if (signal.aborted) return;
    all = told.sessions;
    loaded = true;
    found.textContent = told.count > all.length ? `${count(told.count)}, the first ${count(all.length)} by ${order}` : count(told.count);
    show();
  }

  place.append(h("div", { class: "row wrap" }, h("h1", {}, "Sessions"), found, h("span", { class: "fill" }), h("div", { class: "search" }, search)), table.element);
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
    const followed = found.channels.flatMap((name) => [h("a", { href: `#/channel/${part(name)}`, class: "break" }, name), ", "]).slice(0, -1);
    const more = found.subscriptions - found.channels.length;
    facts.replaceChildren(
      ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "break" }, value))),
      h("div", { class: "whole" }, h("dt", {}, "Follows"), h("dd", {}, followed.length ? followed : "nothing", more > 0 ? ` and ${count(more)} more` : "")),
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
