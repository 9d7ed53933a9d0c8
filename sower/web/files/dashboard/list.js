// A table of thousands of rows, of which only those in sight are in the page.
// Arrow keys, Page Up, Page Down, Home and End go from row to row; Enter opens one.

import { h } from "./dom.js";

const ROW = 44; // px, as in dashboard.css
const AROUND = 8; // rows above and below the sight that are there already

/** columns: [{ name, key, cell(row), class }]; a key makes a column sortable. open: where a row leads, an address. */
export function list({ label, columns, open, sorted, onsort, none }) {
  const body = h("div", { role: "rowgroup", class: "rows" });
  const space = h("div", { class: "space", role: "presentation" }, body);
  const heads = columns.map((column) => head(column));
  const table = h(
    "div",
    { role: "table", "aria-label": label, class: "list" },
    h("div", { role: "rowgroup" }, h("div", { role: "row", class: "row-head", "aria-rowindex": 1 }, heads)),
    h("div", { role: "presentation", class: "scroller", onscroll: place, onkeydown: move }, space),
  );
  const scroller = table.querySelector(".scroller");
  const nothing = h("div", {});
  const element = h("div", { class: "card list-card" }, table, nothing);
  let rows = [];
  let first = -1;
  let last = -1;

  function head({ name, key, class: kind }) {
    const cell = h("div", { role: "columnheader", class: `cell ${kind ?? ""}` });
    if (key) cell.append(h("button", { type: "button", class: "plain sort", onclick: () => onsort(key) }, name));
    else cell.append(h("span", {}, name));
    return cell;
  }

  function showOrder() {
    columns.forEach(({ key }, index) => {
      const { key: by, down } = sorted();
      if (key) heads[index].setAttribute("aria-sort", key !== by ? "none" : down ? "descending" : "ascending");
    });
  }

  /** Show these rows in place of those before; where one looks stays where it is. */
  function show(next) {
    rows = next;
    first = last = -1;
    space.style.height = `${rows.length * ROW}px`;
    table.setAttribute("aria-rowcount", rows.length + 1);
    table.hidden = !rows.length;
    nothing.replaceChildren(...(rows.length ? [] : [none()]));
    showOrder();
    place();
  }

  function place() {
    const from = Math.max(0, Math.floor(scroller.scrollTop / ROW) - AROUND);
    const to = Math.min(rows.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW) + AROUND);
    if (from === first && to === last) return;
    [first, last] = [from, to];
    const focused = body.contains(document.activeElement)
      ? document.activeElement.closest("[role=row]").dataset.key
      : null;
    body.style.transform = `translateY(${from * ROW}px)`;
    body.replaceChildren(...rows.slice(from, to).map((row, index) => line(row, from + index)));
    if (focused !== null)
      [...body.children]
        .find((child) => child.dataset.key === focused)
        ?.querySelector("a")
        .focus({ preventScroll: true });
  }

  function line(row, index) {
    const cells = columns.map(({ cell, class: kind }, at) => {
      const value = cell(row);
      return h(
        "div",
        { role: "cell", class: `cell ${kind ?? ""}` },
        at === 0 ? h("a", { href: open(row), title: String(value) }, value) : value,
      );
    });
    return h("div", { role: "row", class: "line", "aria-rowindex": index + 2, "data-key": open(row) }, cells);
  }

  function move(event) {
    const at = event.target.closest("[role=row]");
    const page = Math.max(1, Math.floor(scroller.clientHeight / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[
      event.key
    ];
    if (!at || !step) return;
    event.preventDefault();
    const index = Math.min(rows.length - 1, Math.max(0, at.getAttribute("aria-rowindex") - 2 + step));
    if (index * ROW < scroller.scrollTop) scroller.scrollTop = index * ROW;
    if ((index + 1) * ROW > scroller.scrollTop + scroller.clientHeight)
      scroller.scrollTop = (index + 1) * ROW - scroller.clientHeight;
    place();
    body.children[index - first].querySelector("a").focus({ preventScroll: true });
  }

  new ResizeObserver(place).observe(scroller);
  return { element, show };
}

/** Rows in an order: numbers by size, texts by letter; equal ones by name. */
export function inOrder(rows, { key, down }, name) {
  const sign = down ? -1 : 1;
  return rows.toSorted((a, b) => {
    const [one, two] = [a[key] ?? -1, b[key] ?? -1];
    if (one === two) return a[name] < b[name] ? -1 : 1;
    return (one < two ? -1 : 1) * sign;
  });
}
