// A chart of two rates over the last quarter of an hour: one as an area, one as a line. Drawn as SVG, so that it takes
// the page's colours and is sharp on every screen.

import { h, rate } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [900, 220];
const POINTS = 180;
const LINES = 4;

function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The smallest of 1, 2, 4, 6, 8, 10, 20, ... that is not below: a quarter of it is short. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= value);
}

export function chart() {
  const plot = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const scale = h("div", { class: "scale small soft", "aria-hidden": "true" });
  const element = h(
    "figure",
    { class: "chart" },
    h("div", { class: "plot" }, plot, scale),
    h(
      "div",
      { class: "axis small soft", "aria-hidden": "true" },
      ...["15 min ago", "10", "5", "now"].map((text) => h("span", {}, text)),
    ),
  );

  /** Show rates in a second, the oldest first. */
  function draw({ deliveries, publishes }) {
    const most = roundUp(Math.max(...deliveries, ...publishes, 4));
    const x = (index, length) => WIDTH - ((length - 1 - index) * WIDTH) / (POINTS - 1);
    const y = (value) => HEIGHT - (value / most) * (HEIGHT - 6) - 1;
    const line = (values) =>
      values
        .map((value, index) => `${index ? "L" : "M"}${x(index, values.length).toFixed(1)} ${y(value).toFixed(1)}`)
        .join("");
    const grid = Array.from({ length: LINES }, (_, index) => {
      const at = y((most * (index + 1)) / LINES);
      return s("line", { x1: 0, x2: WIDTH, y1: at, y2: at, class: "grid" });
    });
    const parts = [...grid];
    if (deliveries.length > 1) {
      const edge = line(deliveries);
      parts.push(s("path", { d: `${edge}L${WIDTH} ${HEIGHT}L${x(0, deliveries.length)} ${HEIGHT}Z`, class: "area" }));
      parts.push(s("path", { d: edge, class: "edge" }), s("path", { d: line(publishes), class: "line" }));
    }
    plot.replaceChildren(...parts);
    plot.setAttribute(
      "aria-label",
      `The last 15 minutes: at most ${rate(Math.max(0, ...deliveries))} deliveries and ${rate(Math.max(0, ...publishes))} messages a second.`,
    );
    scale.replaceChildren(
      ...Array.from({ length: LINES }, (_, index) => h("span", {}, rate((most * (LINES - index)) / LINES))),
    );
  }

  draw({ deliveries: [], publishes: [] });
  return { element, draw };
}
