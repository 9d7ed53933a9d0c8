// What happens now, in numbers: rates, a chart of the last quarter of an hour, the busiest channels, and health.

import { get, part, repeatedly } from "./api.js";
import { chart } from "./chart.js";
import { bytes, count, empty, h, rate, span } from "./dom.js";

const EVERY = 2; // s between two looks at the numbers
const CHART_EVERY = 5; // s; a point of the chart is five seconds

export function overview(place, { signal, failed }) {
  const tiles = {
    sessions: tile("Sessions"),
    publishes: tile("Messages", "a second"),
    deliveries: tile("Deliveries", "a second"),
    channels: tile("Channels"),
  };
  const picture = chart();
  const busy = h("div", {});
  const facts = h("dl", { class: "facts" });
  const faults = h("div", { class: "faults", role: "status" });
  let before = new Map();

  place.append(
    h("h1", { class: "out-of-sight" }, "Overview"),
    faults,
    h(
      "div",
      { class: "tiles" },
      Object.values(tiles).map(({ element }) => element),
    ),
    h(
      "section",
      { class: "card pad" },
      h(
        "div",
        { class: "row wrap" },
        h("h2", {}, "The last 15 minutes"),
        h("span", { class: "fill" }),
        h("span", { class: "legend area-legend small soft" }, "deliveries/s"),
        h("span", { class: "legend line-legend small soft" }, "messages/s"),
      ),
      picture.element,
    ),
    h(
      "div",
      { class: "halves" },
      h("section", { class: "card pad" }, h("h2", {}, "Busiest channels"), busy),
      h("section", { class: "card pad" }, h("h2", {}, "Health"), facts),
    ),
  );

  async function look() {
    const stats = await get("stats");
    if (signal.aborted) return;
    const sessions = Object.entries(stats.sessions).map(([dialect, states]) => [
      dialect,
      Object.values(states).reduce((sum, each) => sum + each, 0),
    ]);
    tiles.sessions.set(
      count(sessions.reduce((sum, [, each]) => sum + each, 0)),
      sessions.map(([dialect, each]) => `${count(each)} ${dialect}`).join(", ") || "nobody is connected",
    );
    tiles.publishes.set(rate(stats.rates.publishes), `${count(stats.totals.publishes)} since the start`);
    tiles.deliveries.set(rate(stats.rates.deliveries), `${bytes(stats.rates.bytes)} a second`);
    tiles.channels.set(
      count(stats.channels),
      stats.rates.connects >= 0.1 ? `${rate(stats.rates.connects)} connects a second` : "no new connections",
    );
    faults.replaceChildren(
      ...stats.faults.map(([check, why]) => h("p", { class: "problem" }, h("b", {}, check), ` ${why}`)),
    );
    showFacts(stats);
  }

  function showFacts({ version, uptime, memory, loop_lag: lag, totals }) {
    const rows = [
      ["Version", version],
      ["Up for", span(uptime)],
      ["Memory", bytes(memory)],
      ["Loop lag", `${(lag * 1000).toFixed(lag < 0.01 ? 1 : 0)} ms`],
      ["Refusals", count(totals.refusals)],
      ["Slow clients closed", count(totals.slow_consumers)],
      ["Came back whole", count(totals.recovered)],
      ["Came back with a gap", count(totals.gaps)],
      ["Channels restarted", count(totals.restarts)],
    ];
    facts.replaceChildren(...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  async function lookAtChannels() {
    const [trend, { channels }] = await Promise.all([get("trend"), get("channels", { limit: 10000 })]);
    if (signal.aborted) return;
    picture.draw(trend);
    const rates = channels.map((each) => ({
      ...each,
      rate: Math.max(0, (each.published ?? 0) - (before.get(each.channel) ?? each.published ?? 0)) / CHART_EVERY,
    }));
    before = new Map(channels.map(({ channel, published }) => [channel, published]));
    rates.sort((a, b) => b.rate - a.rate || b.subscribers - a.subscribers);
    const rows = rates
      .slice(0, 8)
      .map(({ channel, subscribers, rate: each }) =>
        h(
          "li",
          {},
          h("a", { href: `#/channel/${part(channel)}`, class: "name" }, channel),
          h("span", { class: "soft small" }, `${count(subscribers)} here`),
          h("span", { class: "number small" }, `${rate(each)}/s`),
        ),
      );
    busy.replaceChildren(
      rows.length
        ? h("ul", { class: "ranking" }, rows)
        : empty("No channel is followed yet", "As soon as somebody subscribes, it is listed here."),
    );
  }

  repeatedly(EVERY, look, signal, failed);
  repeatedly(CHART_EVERY, lookAtChannels, signal, failed);
}

function tile(name, unit = "") {
  const value = h("span", { class: "value" }, "–");
  const more = h("span", { class: "soft small" }, " ");
  const element = h(
    "section",
    { class: "card tile" },
    h("h2", { class: "soft small" }, name, unit && h("span", {}, ` ${unit}`)),
    value,
    more,
  );
  return {
    element,
    set(text, line) {
      value.textContent = text;
      more.textContent = line;
    },
  };
}
