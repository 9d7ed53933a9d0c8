// The audit record: who was refused and why, who came and went, what was minted and changed. The newest first.

import { get, part, repeatedly } from "./api.js";
import { count, empty, h, timeOf } from "./dom.js";

const EVERY = 3; // s
const PAGE = 100;

const KINDS = {
  Everything: "",
  Refusals: "refused,dropped",
  "Coming and going": "connected,disconnected,subscribed,signed_in,terminated,kicked",
  "Publishes (counted)": "published",
  "Tokens and keys":
    "token_minted,key_minted,key_rotated,key_retired,app_added,app_removed,dashboard_opened,frames_watched",
  "The daemon": "started,stopped,config_changed,channel_restarted,channel_quarantined",
};

export function activity(place, { signal, failed }) {
  let shown = [];
  let isAtTop = true;
  const kind = h(
    "select",
    { "aria-label": "Kind", onchange: anew },
    Object.keys(KINDS).map((name) => h("option", { value: KINDS[name] }, name)),
  );
  const rows = h("tbody", {});
  const table = h(
    "table",
    { class: "records", "aria-label": "Audit record" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Time", "What", "Who", "Channel", "Details"].map((name) => h("th", { scope: "col" }, name)),
      ),
    ),
    rows,
  );
  const nothing = h("div", {});
  const older = h("button", { type: "button", hidden: true, onclick: read }, "Older");

  place.append(
    h(
      "div",
      { class: "row wrap" },
      h("h1", {}, "Activity"),
      h("span", { class: "fill" }),
      h("div", { class: "search" }, kind),
    ),
    h(
      "section",
      { class: "card" },
      h("div", { class: "table-scroller", tabIndex: 0, role: "region", "aria-label": "Audit record" }, table),
      nothing,
      h("div", { class: "row pad" }, older),
    ),
  );

  function show() {
    rows.replaceChildren(...shown.map(line));
    table.hidden = !shown.length;
    nothing.replaceChildren(
      ...(shown.length
        ? []
        : [
            empty(
              "Nothing of this kind happened",
              "The audit keeps what happened for as long as store.keep_audit says.",
            ),
          ]),
    );
    older.hidden = shown.length < PAGE;
  }

  async function look() {
    const { records } = await get("audit", { kind: kind.value, limit: PAGE });
    if (signal.aborted || !isAtTop || JSON.stringify(records) === JSON.stringify(shown)) return;
    shown = records;
    show();
  }

  async function read() {
    isAtTop = false; // who reads on is not taken back to the top
    const { records } = await get("audit", { kind: kind.value, limit: PAGE, before: shown.at(-1)?.time });
    shown = [...shown, ...records];
    show();
    older.hidden = records.length < PAGE;
  }

  function anew() {
    isAtTop = true;
    shown = [];
    look().then(show).catch(failed);
  }

  repeatedly(EVERY, look, signal, failed);
}

function line({ time, kind, who, channel, code, detail, count: times = 1 }) {
  const why = [code, detail, times > 1 ? `${count(times)} times` : ""].filter(Boolean);
  return h(
    "tr",
    { class: kind },
    h("td", {}, timeOf(time * 1000)),
    h(
      "td",
      {},
      h(
        "span",
        { class: `kind ${kind === "refused" || kind.startsWith("channel_") ? "bad" : ""}` },
        kind.replaceAll("_", " "),
      ),
    ),
    h("td", { class: "break" }, who ?? ""),
    h(
      "td",
      { class: "break mono" },
      channel && !channel.startsWith("/") ? h("a", { href: `#/channel/${part(channel)}` }, channel) : (channel ?? ""),
    ),
    h("td", { class: "break" }, why.join(": ")),
  );
}
