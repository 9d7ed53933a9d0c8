// All channels that somebody follows: searched and sorted here, so that typing waits for nobody.

import { get, part, repeatedly } from "./api.js";
import { count, empty, h } from "./dom.js";
import { inOrder, list } from "./list.js";

const EVERY = 4; // s
const MOST = 10_000; // channels that the daemon lists at once

export function channels(place, { signal, failed }) {
  let all = [];
  let order = { key: "subscribers", down: true };
  let loaded = false;
  const search = h("input", {
    type: "search",
    placeholder: "Search by name",
    "aria-label": "Search channels",
    spellcheck: false,
    oninput: show,
  });
  const found = h("span", { class: "soft small", role: "status" });
  const table = list({
    label: "Channels",
    columns: [
      { name: "Channel", key: "channel", cell: ({ channel }) => channel, class: "wide" },
      { name: "Subscribers", key: "subscribers", cell: ({ subscribers }) => count(subscribers), class: "number" },
      {
        name: "Members",
        key: "members",
        cell: ({ members }) => (members === undefined ? "" : count(members)),
        class: "number",
      },
      {
        name: "Messages",
        key: "published",
        cell: ({ published }) => count(published ?? 0),
        class: "number narrow-off",
      },
    ],
    open: ({ channel }) => `#/channel/${part(channel)}`,
    sorted: () => order,
    onsort(key) {
      order = { key, down: order.key === key ? !order.down : key !== "channel" };
      show();
    },
    none: () => {
      if (!loaded) return empty("Looking…", "");
      return search.value
        ? empty(
            "No channel has this in its name",
            "Channels that nobody follows are not listed; their history is: type a name, and press Enter.",
          )
        : empty("No channel is followed yet", "As soon as somebody subscribes, it is listed here.");
    },
  });

  function show() {
    const wanted = search.value.trim().toLowerCase();
    const rows = wanted ? all.filter(({ channel }) => channel.toLowerCase().includes(wanted)) : all;
    found.textContent = !loaded
      ? ""
      : wanted
        ? `${count(rows.length)} of ${count(all.length)}`
        : `${count(all.length)}${all.length === MOST ? " or more" : ""}`;
    table.show(inOrder(rows, order, "channel"));
  }

  const form = h(
    "form",
    { class: "row wrap", role: "search", onsubmit: open },
    h("h1", {}, "Channels"),
    found,
    h("span", { class: "fill" }),
    h("div", { class: "search" }, search),
  );
  function open(event) {
    event.preventDefault();
    if (search.value.trim()) location.hash = `#/channel/${part(search.value.trim())}`;
  }

  place.append(form, table.element);
  table.show([]);
  repeatedly(
    EVERY,
    async () => {
      const { channels: listed } = await get("channels", { limit: MOST });
      if (signal.aborted) return;
      all = listed;
      loaded = true;
      show();
    },
    signal,
    failed,
  );
}
