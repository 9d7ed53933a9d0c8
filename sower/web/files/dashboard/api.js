// What the dashboard asks the daemon for. The cookie that signs it in is sent by the browser; no script sees it.

import { Sower } from "../sower.js";

const HERE = new URL(".", import.meta.url);
export const API = new URL("api/", HERE);
/** Where applications find the daemon: what is before /dashboard. */
export const DAEMON = new URL("..", HERE);

/** What the daemon refused. */
export class Refused extends Error {
  constructor(status, { code = "", message = "The daemon answered in a way that was not expected.", hint = "" } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.hint = hint;
  }
}

let signedOut = () => {};

/** Who is told when the daemon no longer knows who asks. */
export function onSignedOut(listener) {
  signedOut = listener;
}

async function ask(url, method, body) {
  let answer;
  try {
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    answer = await fetch(url, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new Refused(0, {
      code: "unreachable",
      message: "The daemon cannot be reached.",
      hint: "It may be starting anew; this page tries again.",
    });
  }
  const told = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  const refused = new Refused(answer.status, told.error);
  if (answer.status === 401) signedOut(refused);
  throw refused;
}

export const get = (path, query = {}) => {
  const url = new URL(path, API);
  for (const [name, value] of Object.entries(query))
    if (value !== undefined && value !== "") url.searchParams.set(name, value);
  return ask(url, "GET");
};
export const post = (path, body) => ask(new URL(path, API), "POST", body);
export const remove = (path) => ask(new URL(path, API), "DELETE");

export const signIn = (shown) => ask(new URL("session", HERE), "POST", shown);
/** Whether the browser has a cookie to show, be it still good or not. */
export const hasCookie = () => ask(new URL("session", HERE), "GET").then(({ cookie }) => cookie);
export const signOut = () => ask(new URL("session", HERE), "DELETE");

/** A channel as its subscribers hear it. */
export function follow(name) {
  return new Sower({ url: API }).subscribe(name);
}

/** A part of an address. */
export const part = encodeURIComponent;

/** Ask now and then while the page is looked at, until `signal` ends it. A failure is told, and it goes on. */
export function repeatedly(seconds, task, signal, failed) {
  let timer;
  const round = async () => {
    clearTimeout(timer);
    if (signal.aborted) return;
    try {
      if (!document.hidden) await task();
    } catch (error) {
      if (!signal.aborted) failed(error);
    }
    if (!signal.aborted) timer = setTimeout(round, seconds * 1000);
  };
  document.addEventListener("visibilitychange", () => document.hidden || round(), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  round();
}
