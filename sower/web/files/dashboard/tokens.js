// A token maker, and what each SDK needs to be told to use this daemon.

import { part, post } from "./api.js";
import { copier, empty, h, moment, tabs } from "./dom.js";
import { snippets } from "./snippets.js";

const CAN = ["subscribe", "publish", "presence", "history"];

export function tokens(place, { argument = "", identity, failed }) {
  const channel = h("input", {
    value: argument || "private-orders",
    required: true,
    spellcheck: false,
    oninput: showSnippets,
  });
  const user = h("input", { placeholder: "nobody in particular", spellcheck: false });
  const ttl = h(
    "select",
    {},
    [
      ["10m", "10 minutes"],
      ["1h", "an hour"],
      ["1d", "a day"],
      ["30d", "30 days"],
    ].map(([value, name]) => h("option", { value, selected: value === "1h" }, name)),
  );
  const can = CAN.map((name) => h("input", { type: "checkbox", value: name, checked: true }));
  const result = h("div", { role: "status" }, empty("No token yet", "It is made by the daemon, and shown here once."));
  const code = h("div", {});

  place.append(
    h("h1", {}, "Tokens"),
    h(
      "div",
      { class: "halves" },
      h(
        "section",
        { class: "card pad" },
        h("h2", {}, "Make a token"),
        h(
          "form",
          { class: "fields", onsubmit: make },
          h("label", {}, "Channel", channel),
          h("label", {}, "User", user),
          h("label", {}, "Good for", ttl),
          h(
            "fieldset",
            { class: "checks" },
            h("legend", {}, "May"),
            can.map((box) => h("label", { class: "check" }, box, box.value)),
          ),
          h("div", {}, h("button", { class: "primary" }, "Make the token")),
        ),
      ),
      h("section", { class: "card pad" }, h("h2", {}, "The token"), result),
    ),
    h("section", { class: "card pad" }, h("h2", {}, "Use this channel from"), code),
  );

  async function make(event) {
    event.preventDefault();
    try {
      const made = await post(`channels/${part(channel.value)}/auth`, {
        user: user.value || null,
        ttl: ttl.value,
        can: can.filter(({ checked }) => checked).map(({ value }) => value),
      });
      result.replaceChildren(
        h("pre", { class: "token break", tabIndex: 0 }, made.token),
        h(
          "div",
          { class: "row" },
          copier(() => made.token),
          h("span", { class: "soft small" }, `For ${made.channel}, until ${moment(made.expires * 1000)}.`),
        ),
      );
    } catch (error) {
      failed(error);
    }
  }

  let showing;
  function showSnippets() {
    clearTimeout(showing);
    showing = setTimeout(
      () =>
        code.replaceChildren(
          tabs(
            "SDKs",
            snippets(channel.value || "news", identity).map(([name, text]) => [
              name,
              () =>
                h(
                  "div",
                  { class: "snippet" },
                  h("pre", { tabIndex: 0 }, text),
                  copier(() => text),
                ),
            ]),
          ),
        ),
      150,
    );
  }
  showSnippets();
}
