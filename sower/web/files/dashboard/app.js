// The dashboard's frame: who is signed in, which view is shown. A view is a function (place, context) that fills `place`
// and stops what it began when context.signal is aborted.

import { get, hasCookie, onSignedOut, signIn, signOut } from "./api.js";
import { h } from "./dom.js";
import { activity } from "./activity.js";
import { channel } from "./channel.js";
import { channels } from "./channels.js";
import { overview } from "./overview.js";
import { session, sessions } from "./sessions.js";
import { tokens } from "./tokens.js";

const VIEWS = [
  { name: "Overview", path: "", show: overview },
  { name: "Channels", path: "channels", show: channels },
  { name: "Sessions", path: "sessions", show: sessions },
  { name: "Activity", path: "activity", show: activity },
  { name: "Tokens", path: "tokens", show: tokens },
];
const INNER = { channel: { under: "channels", show: channel }, session: { under: "sessions", show: session } };

const view = document.getElementById("view");
const nav = document.getElementById("nav");
const told = document.getElementById("told");
let identity = null;
let current = new AbortController();
let telling;

/** Say something at the lower edge for a while. */
function tell(text) {
  told.textContent = text;
  told.hidden = false;
  clearTimeout(telling);
  telling = setTimeout(() => (told.hidden = true), 6000);
}

/** Say what went wrong, in the place where it did; the place is not emptied. */
function failed(error) {
  if (error.status !== 401) tell(`${error.message} ${error.hint ?? ""}`);
}

function route() {
  current.abort();
  current = new AbortController();
  told.hidden = true;
  if (!identity) return showSignIn();
  const [first = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decode);
  const found = INNER[first] ?? VIEWS.find(({ path }) => path === first) ?? VIEWS[0];
  for (const link of nav.children) {
    if (link.dataset.path === (found.under ?? found.path)) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  view.replaceChildren();
  document.title = `${found.name ?? rest[0] ?? ""} · Sower`;
  found.show(view, { signal: current.signal, tell, failed, identity, argument: rest[0], more: rest.slice(1) });
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function setFrame() {
  for (const element of [nav, document.getElementById("who"), document.getElementById("leave")])
    element.hidden = !identity;
  if (identity) document.getElementById("who").textContent = `app ${identity.app}`;
}

// Signing in

function showSignIn(message = "") {
  document.title = "Sign in · Sower";
  const byToken = { checked: false };
  const key = h("input", { name: "key", autocomplete: "username", spellcheck: false, required: true });
  const secret = h("input", { name: "secret", type: "password", autocomplete: "current-password", required: true });
  const token = h("input", { name: "token", type: "password", autocomplete: "off", required: true });
  const problem = h("p", { class: "problem", role: "alert", hidden: !message }, message);
  const button = h("button", { class: "primary" }, "Sign in");
  const fields = h("div", { class: "fields" });
  const hint = h("p", { class: "soft small" });
  const other = h("button", { type: "button", class: "plain small-button", onclick: () => choose(!byToken.checked) });

  function choose(checked) {
    byToken.checked = checked;
    fields.replaceChildren(
      ...(checked
        ? [h("label", {}, "Admin token", token)]
        : [h("label", {}, "Key", key), h("label", {}, "Secret", secret)]),
    );
    other.textContent = checked ? "Use a key and its secret" : "Use an admin token";
    hint.replaceChildren(
      ...(checked
        ? [h("code", {}, "sower dashboard"), " prints a token."]
        : ["Key and secret of an app are in the config; ", h("code", {}, "sower serve --dev"), " prints them."]),
    );
  }

  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    try {
      await signIn(byToken.checked ? { token: token.value.trim() } : { key: key.value.trim(), secret: secret.value });
      await begin();
    } catch (error) {
      problem.textContent =
        error.code === "unreachable" ? error.message : `${error.message} ${error.status === 429 ? error.hint : ""}`;
      problem.hidden = false;
      secret.value = "";
      (byToken.checked ? token : secret).focus();
    } finally {
      button.disabled = false;
    }
  }

  choose(false);
  const form = h("form", { class: "fields", onsubmit: submit }, fields, problem, button);
  view.replaceChildren(
    h(
      "section",
      { class: "card sign-in" },
      h("h1", {}, "Sign in"),
      h("p", { class: "soft" }, "See what happens on this daemon."),
      form,
      hint,
      other,
    ),
  );
  key.focus();
}

async function begin() {
  identity = await get("identity");
  setFrame();
  route();
}

async function leave() {
  identity = null;
  await signOut().catch(() => {});
  setFrame();
  route();
}

for (const { name, path } of VIEWS) nav.append(h("a", { href: `#/${path}`, "data-path": path }, name));
document.getElementById("leave").addEventListener("click", leave);
window.addEventListener("hashchange", () => {
  route();
  view.focus();
});
onSignedOut(() => {
  const wasSignedIn = identity !== null;
  identity = null;
  setFrame();
  if (wasSignedIn) {
    current.abort();
    showSignIn("You were signed out. Sign in again to go on.");
  }
});
hasCookie()
  .then((has) => (has ? begin() : route()))
  .catch((error) => showSignIn(error.status === 401 ? "" : error.message));
