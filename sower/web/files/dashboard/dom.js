// Elements, and how numbers and times are written. Whatever somebody said becomes text, never markup: nothing here
// parses HTML.

/** An element. Properties that it has are set, others become attributes; `on...` listens. Children: elements or text. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const NUMBERS = new Intl.NumberFormat("en");

export const count = (number) => NUMBERS.format(number);

/** A rate: three digits that say something. */
export function rate(number) {
  if (number >= 9_950) return `${(number / 1000).toFixed(number < 99_500 ? 1 : 0)}k`;
  return number >= 99.5 || Number.isInteger(number) ? count(Math.round(number)) : number.toFixed(1);
}

export function bytes(number) {
  for (const unit of ["B", "KiB", "MiB"]) {
    if (number < 1000) return `${number < 10 && unit !== "B" ? number.toFixed(1) : Math.round(number)} ${unit}`;
    number /= 1024;
  }
  return `${number.toFixed(1)} GiB`;
}

/** Seconds in the largest unit that fits. */
export function span(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** A time of day; with its date where it is not today's. milliseconds since 1970. */
export function moment(milliseconds) {
  const date = new Date(milliseconds);
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

export function timeOf(milliseconds) {
  return h(
    "time",
    { dateTime: new Date(milliseconds).toISOString(), title: new Date(milliseconds).toString() },
    moment(milliseconds),
  );
}

/** What is shown where there is nothing to show yet. */
export function empty(title, text) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", { class: "soft small" }, text));
}

/** A button that puts a text on the clipboard. */
export function copier(text, label = "Copy") {
  const button = h("button", { type: "button", class: "small-button", onclick: copy }, label);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      const field = h("textarea", { value: text(), class: "out-of-sight" }); // a page without TLS has no clipboard of its own
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
      button.focus();
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  }
  return button;
}

/** A row of tabs over panels that are made when they are first looked at. tabs: [label, () => element]. */
export function tabs(label, entries) {
  const panel = h("div", { role: "tabpanel", class: "panel", tabIndex: 0 });
  const made = new Map();
  const buttons = entries.map(([name], index) =>
    h("button", { type: "button", role: "tab", class: "tab", onclick: () => choose(index), onkeydown: move }, name),
  );
  function choose(index) {
    buttons.forEach((button, at) => {
      button.setAttribute("aria-selected", at === index);
      button.tabIndex = at === index ? 0 : -1;
    });
    const [name, make] = entries[index];
    if (!made.has(name)) made.set(name, make());
    panel.setAttribute("aria-label", name);
    panel.replaceChildren(made.get(name));
  }
  function move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (buttons.indexOf(event.target) + step + buttons.length) % buttons.length;
    choose(next);
    buttons[next].focus();
  }
  choose(0);
  return h(
    "div",
    { class: "tabs" },
    h("div", { role: "tablist", "aria-label": label, class: "tablist" }, buttons),
    panel,
  );
}
