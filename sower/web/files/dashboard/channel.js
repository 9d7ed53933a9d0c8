// One channel: what is said on it now and was said before, who is there, and a box to say something.

import { follow, get, part, post, repeatedly } from "./api.js";
import { count, empty, h, tabs, timeOf } from "./dom.js";

const EVERY = 3; // s
const MOST_LIVE = 500; // events that are kept in the page
const PAGE = 50;
const SOON = 250; // ms in which many who come and go are one change

export function channel(place, context) {
  const name = context.argument;
  const followed = follow(name);
  const subscribers = h("span", { class: "soft" });
  const members = h("div", {});
  place.append(
    h("p", { class: "small" }, h("a", { href: "#/channels" }, "Channels")),
    h(
      "div",
      { class: "row wrap heading" },
      h("h1", { class: "mono break" }, name),
      subscribers,
      h("span", { class: "fill" }),
      h("a", { class: "button", href: `#/tokens/${part(name)}` }, "Make a token"),
    ),
    h(
      "div",
      { class: "main-and-side" },
      h(
        "section",
        { class: "card pad" },
        tabs("Events", [
          ["Live", () => live(followed)],
          ["History", () => history(name, context)],
        ]),
      ),
      h(
        "div",
        { class: "side" },
        publishBox(name, context),
        h("section", { class: "card pad" }, h("h2", {}, "Who is here"), members),
      ),
    ),
  );

  async function look() {
    const { channels } = await get("channels", { prefix: name, limit: 1 });
    const known = channels.find(({ channel: each }) => each === name);
    subscribers.textContent = known
      ? `${count(known.subscribers)} ${known.subscribers === 1 ? "subscriber" : "subscribers"}, this page among them`
      : "nobody follows it";
    await showMembers(name, known, members);
  }
  let due = null;
  function lookSoon() {
    due ??= setTimeout(() => {
      due = null;
      if (!context.signal.aborted) look().catch(context.failed);
    }, SOON);
  }

  for (const what of ["state", "join", "leave", "update"]) followed.observe(what, lookSoon);
  context.signal.addEventListener("abort", () => followed.close());
  repeatedly(EVERY, look, context.signal, context.failed);
}

async function showMembers(name, known, element) {
  if (known && known.members === undefined) {
    element.replaceChildren(
      empty(
        "This channel has no presence",
        "A rule with presence = true, or a name that begins with presence-, changes that.",
      ),
    );
    return;
  }
  const { members } = known?.members ? await get(`presence/${part(name)}`) : { members: [] };
  const rows = members.map(({ user, meta, connections }) =>
    h(
      "li",
      {},
      h("span", { class: "name break" }, user),
      h("span", { class: "soft small mono break" }, meta === null ? "" : JSON.stringify(meta)),
      connections > 1 ? h("span", { class: "number small" }, `${connections} ×`) : null,
    ),
  );
  element.replaceChildren(
    rows.length ? h("ul", { class: "ranking" }, rows) : empty("Nobody is here", "Members appear as they join."),
  );
}

// Live

function live(followed) {
  const filter = h("input", {
    type: "search",
    placeholder: "Filter by event, user or data",
    "aria-label": "Filter events",
    oninput: apply,
  });
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: toggle }, "Pause");
  const state = h("span", { class: "soft small", role: "status" });
  const events = h("ol", { class: "events", "aria-label": "Live events" });
  const nothing = h("div", {}, empty("Listening", "Events appear here as they are published."));
  const held = []; // while one reads what is there
  const arrived = []; // since the page was last painted
  let paused = false;

  followed.onAny((event) => hear(() => eventLine(event)));
  followed.observe("state", (now) => {
    state.textContent = now === "open" ? "" : now;
  });
  followed.observe("gap", () => note("Something was missed here: the daemon no longer has it."));
  for (const what of ["join", "leave", "update"])
    followed.observe(what, ({ user }) => followed.state === "open" && note(`${user}: ${what}`));

  function note(text) {
    hear(() => h("li", { class: "note soft small" }, text));
  }
  /** Many events between two pictures are one change of the page; of more than it shows, the newest. */
  function hear(line) {
    const list = paused ? held : arrived;
    list.push(line);
    if (list.length > MOST_LIVE) list.shift();
    if (paused) pause.textContent = `Resume (${count(held.length)})`;
    else if (arrived.length === 1) requestAnimationFrame(showArrived);
  }
  function showArrived() {
    const lines = arrived.splice(0).map((make) => make());
    for (const line of lines) line.hidden = !fits(line);
    nothing.hidden = true;
    events.prepend(...lines.reverse());
    while (events.children.length > MOST_LIVE) events.lastElementChild.remove();
  }
  function toggle() {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    pause.textContent = paused ? "Resume" : "Pause";
    if (!paused) for (const line of held.splice(0)) hear(line);
  }
  function fits(line) {
    return line.textContent.toLowerCase().includes(filter.value.trim().toLowerCase());
  }
  function apply() {
    for (const line of events.children) line.hidden = !fits(line);
  }
  return h(
    "div",
    {},
    h("div", { class: "row wrap tools" }, h("div", { class: "search" }, filter), pause, state),
    nothing,
    events,
  );
}

/** One event as a line that opens to its whole data. */
function eventLine({ event, data, user, serial, time, extra }) {
  const text = typeof data === "string" ? data : JSON.stringify(data);
  const whole = JSON.stringify(
    extra === undefined ? { event, data, user, serial } : { event, data, user, serial, extra },
    null,
    2,
  );
  return h(
    "li",
    {},
    h(
      "details",
      {},
      h(
        "summary",
        {},
        timeOf(time),
        h("b", { class: "break" }, event),
        h("span", { class: "soft break" }, user ?? ""),
        h("code", { class: "data" }, text.slice(0, 300)),
      ),
      h("pre", { tabIndex: 0 }, whole),
    ),
  );
}

// History

function history(name, { failed }) {
  const events = h("ol", { class: "events", "aria-label": "History" });
  const more = h("button", { type: "button", onclick: read }, "Older");
  const state = h("div", {});
  let before;
  read();

  async function read() {
    more.disabled = true;
    try {
      const page = await get(`history/${part(name)}`, { limit: PAGE, order: "desc", before });
      events.append(...page.events.map(eventLine));
      before = page.events.at(-1)?.serial;
      more.hidden = page.next === null;
      if (!events.children.length)
        state.replaceChildren(
          empty("Nothing was said yet", "What is published from now on is kept as the channel's rule says."),
        );
      else if (page.next === null) state.replaceChildren(h("p", { class: "soft small" }, "That is all that is kept."));
    } catch (error) {
      more.hidden = true;
      if (error.code === "history_off") state.replaceChildren(empty("This channel keeps no history", error.hint));
      else failed(error);
    }
    more.disabled = false;
  }
  return h("div", {}, events, h("div", { class: "row tools" }, more), state);
}

// Publish

function publishBox(name, { tell }) {
  const event = h("input", { value: "message", required: true, maxLength: 200, spellcheck: false });
  const data = h("textarea", { rows: 4, spellcheck: false, value: '{"hello": "world"}' });
  const said = h("p", { class: "small soft", role: "status" });
  const button = h("button", { class: "primary" }, "Publish");

  async function submit(submitted) {
    submitted.preventDefault();
    let value;
    try {
      value = data.value.trim() ? JSON.parse(data.value) : null;
    } catch (error) {
      said.textContent = `The data is no JSON: ${error.message}`;
      return;
    }
    button.disabled = true;
    try {
      const { published } = await post("events/publish", { channel: name, event: event.value, data: value });
      said.textContent = `Accepted as ${published[0].serial}.`;
    } catch (error) {
      said.textContent = "";
      tell(`${error.message} ${error.hint}`);
    }
    button.disabled = false;
  }
  return h(
    "section",
    { class: "card pad" },
    h("h2", {}, "Publish"),
    h(
      "form",
      { class: "fields", onsubmit: submit },
      h("label", {}, "Event", event),
      h("label", {}, "Data (JSON)", data),
      h("div", { class: "row" }, button, said),
    ),
  );
}
