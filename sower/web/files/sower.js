// Sower's client: one ES module for browsers and for Node, served by the daemon itself. Its types are in sower.d.ts.
//
//   import { Sower } from "https://realtime.example.com/sower.js";
//
//   const sower = new Sower({ key: "app-key", token: (channel) => fetchTokenFor(channel) });
//   const lobby = sower.subscribe("presence-lobby");
//   lobby.on("greet", ({ data, user }) => console.log(user, data));
//   lobby.observe("join", ({ user }) => console.log(user, "is here"));
//   await lobby.publish("greet", { hello: "all" });
//
// Rule 1: a channel is one WebSocket. It comes back by itself until close(), or until an error says that this is of no use.
// Rule 2: what was missed meanwhile is handed out first, in order and once; where some of it is gone for good, "gap" is told.
// Rule 3: a publish is said again, with its id, until it is acknowledged. The daemon stores an id once.
// Rule 4: a listener that throws is reported, and disturbs neither the channel nor the other listeners.

const FIRST_WAIT = 500; // ms before the first attempt to come back, doubled with each further one
const LONGEST_WAIT = 20_000; // ms; with the doubling it is reached at the seventh attempt
const STEADY_AFTER = 5_000; // ms that a connection lasts until the next loss counts as the first again
const SILENT_FOR = 120_000; // ms without a word after which the daemon is asked for one, as pusher-js does
const ANSWER_WITHIN = 10_000; // ms that it has to answer, and to take a new connection
const CLOSE_WITHIN = 100; // ms between a socket's error and its close
const RENEW_BEFORE = 30_000; // ms before a token's end at which the next is fetched
const MOST_PENDING = 1_000; // publishes that may wait for their acknowledgement
const LONGEST_TIMER = 2 ** 31 - 1; // ms; browsers fire a longer one at once
const FINAL = { from: 4500, to: 4999 }; // close codes after which coming back is of no use

/** What the daemon refused. `code` names the error, `hint` says what to do about it. */
export class SowerError extends Error {
  constructor({ code = "internal_error", message = "", hint = "", retry = false, retry_after: after } = {}) {
    super(message || code);
    this.name = "SowerError";
    this.code = code;
    this.hint = hint;
    this.retry = retry;
    this.retryAfter = after;
  }
}

class Listeners {
  #of = new Map();

  add(what, listener) {
    const listeners = this.#of.get(what) ?? new Set();
    this.#of.set(what, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  tell(what, value) {
    for (const listener of [...(this.#of.get(what) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        if (globalThis.reportError) globalThis.reportError(error);
        else console.error(error);
      }
    }
  }
}

/** A daemon, and the channels of it that are followed from here. */
export class Sower {
  #settings;
  #channels = new Map();
  #stop = new AbortController();

  constructor({ url, key, user, token, WebSocket = globalThis.WebSocket } = {}) {
    if (!WebSocket)
      throw new TypeError("There is no WebSocket here: give one as { WebSocket }, such as that of the package ws.");
    const base = new URL(url ?? new URL(".", import.meta.url));
    if (!/^(http|ws)s?:$/.test(base.protocol))
      throw new TypeError(`${base.href} is no address of a daemon: give { url }.`);
    base.protocol = base.protocol.replace("ws", "http");
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    const provide = typeof token === "function" ? token : () => token;
    this.#settings = { base, key, user, token: provide, WebSocket, forget: (name) => this.#channels.delete(name) };
    this.#listenToThePage();
  }

  /** Follow a channel. Asked for twice, it is the same one. */
  subscribe(name) {
    let channel = this.#channels.get(name);
    if (!channel) this.#channels.set(name, (channel = new Channel(this.#settings, name)));
    return channel;
  }

  /** Leave all channels. */
  close() {
    this.#stop.abort();
    for (const channel of [...this.#channels.values()]) channel.close();
  }

  // A laptop that wakes up, a network that is back: timers may be minutes late then, and a socket dead without knowing it.
  #listenToThePage() {
    const { signal } = this.#stop;
    const wake = () => this.#channels.forEach((channel) => channel.wake());
    globalThis.addEventListener?.("online", wake, { signal });
    globalThis.addEventListener?.("offline", wake, { signal });
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || wake(), { signal });
  }
}

/** One channel that is followed. state: "connecting", "open", "waiting", "offline" or "closed". */
class Channel {
  state = "connecting";
  members = new Map(); // user -> meta, where the channel has presence
  user = null;
  session = null;
  #settings;
  #events = new Listeners();
  #every = new Listeners();
  #happenings = new Listeners();
  #socket = null;
  #turn = 0; // of connections: what an earlier one still says is not heard
  #losses = 0;
  #openedAt = Infinity;
  #heardAt = 0;
  #position = null;
  #epoch = "";
  #error = null; // the last one that belongs to no publish: it may be why the socket closes
  #meta; // what this member last said of itself
  #pending = new Map(); // id -> what is not acknowledged yet
  #own = new Set(); // serials of what was published without echo, which a replay would bring back
  #timers = {};

  constructor(settings, name) {
    this.#settings = settings;
    this.name = name;
    this.#connect();
  }

  /** Hear the events of one name, as { event, data, serial, time, user, encoding, extra }. Returns what ends it. */
  on(event, listener) {
    return this.#events.add(event, listener);
  }

  /** Hear all events, whatever their name. */
  onAny(listener) {
    return this.#every.add("*", listener);
  }

  /** Hear what happens to the subscription: "state", "gap", "error", "join", "leave" or "update". */
  observe(what, listener) {
    return this.#happenings.add(what, listener);
  }

  /** Where this client stands: what to come back with after a reload of the page. */
  get position() {
    return this.#position;
  }

  /** Say something to all others (with echo: to oneself too). Resolves to its serial once it is accepted. */
  publish(event, data = null, { id = newId(), echo = false } = {}) {
    return this.#ask({ type: "publish", event, data, id, echo });
  }

  /** Replace what others see of this member. Said again after each reconnect. */
  update(meta) {
    this.#meta = meta;
    for (const [id, { frame, reject }] of this.#pending) {
      if (frame.type === "presence") {
        this.#pending.delete(id);
        reject(new SowerError({ code: "superseded", message: "A later update took the place of this one." }));
      }
    }
    return this.#ask({ type: "presence", meta, id: newId() });
  }

  /** A page of what was said: { events, gap, position, next }; next() is the page after it, null on the last. */
  async history({ limit = 100, order = "desc", since, before } = {}) {
    const query = new URLSearchParams({ limit, order });
    if (since) query.set("since", since);
    if (before) query.set("before", before);
    return this.#page(`history/${encodeURIComponent(this.name)}?${query}`);
  }

  /** Leave the channel. What is not acknowledged yet is rejected. */
  close() {
    this.#end(new SowerError({ code: "closed", message: `The channel ${this.name} was left.` }));
  }

  /** Something about the page or its network changed: come back now, or find out whether the socket is still alive. */
  wake() {
    if (this.state === "waiting" || this.state === "offline") {
      if (isOnline()) this.#connect();
    } else if (this.state === "open") this.#probe();
  }

  // The connection

  async #connect() {
    const turn = ++this.#turn;
    this.#clear();
    this.#become("connecting");
    try {
      const token = await this.#settings.token(this.name);
      if (turn !== this.#turn) return;
      const socket = (this.#socket = new this.#settings.WebSocket(this.#address(token), "sower.v1"));
      socket.onmessage = ({ data }) => turn === this.#turn && this.#hear(JSON.parse(data));
      socket.onclose = ({ code }) => turn === this.#turn && this.#lost(code);
      socket.onerror = () => this.#expectClose(turn);
      this.#timers.answer = setTimeout(() => this.#wait(), ANSWER_WITHIN);
      if (token) this.#renewBefore(endOf(token));
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#happenings.tell("error", error);
      this.#wait();
    }
  }

  #address(token) {
    const { base, key, user } = this.#settings;
    const address = new URL(`ws/${encodeURIComponent(this.name)}`, base);
    address.protocol = base.protocol.replace("http", "ws");
    if (key) address.searchParams.set("key", key);
    if (token) address.searchParams.set("token", token);
    else if (user) address.searchParams.set("user", user);
    if (this.#position) address.searchParams.set("since", this.#position);
    return address.href;
  }

  /** After an error comes a close, which says more; but not from the WebSocket of Node 20 where nobody listened. */
  #expectClose(turn) {
    if (turn === this.#turn) this.#timers.close = setTimeout(() => this.#lost(1006), CLOSE_WITHIN);
  }

  #lost(code) {
    const error = this.#error;
    if (code >= FINAL.from && code <= FINAL.to) this.#end(error ?? new SowerError({ code: `close_${code}` }));
    else this.#wait((error?.retryAfter ?? 0) * 1000);
  }

  /** Come back after a while that is not the same for all: thousands are lost at once when a daemon restarts. */
  #wait(least = 0) {
    this.#leaveSocket();
    this.#losses = Date.now() - this.#openedAt >= STEADY_AFTER ? 0 : this.#losses;
    this.#openedAt = Infinity;
    const most = Math.min(FIRST_WAIT * 2 ** this.#losses++, LONGEST_WAIT);
    const wait = Math.max(least, most * (0.5 + Math.random() / 2));
    this.#timers.retry = setTimeout(() => this.#connect(), wait);
    this.#become(isOnline() ? "waiting" : "offline");
  }

  #end(error) {
    if (this.state === "closed") return;
    this.#turn++;
    this.#leaveSocket();
    this.#settings.forget(this.name);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    this.#become("closed");
    if (error.code !== "closed") this.#happenings.tell("error", error);
    for (const { reject } of pending) reject(error);
  }

  #leaveSocket() {
    this.#clear();
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #clear() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#timers = {};
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.#happenings.tell("state", state);
  }

  // What the daemon says

  #hear(frame) {
    this.#heardAt = Date.now();
    clearTimeout(this.#timers.answer);
    if (frame.type === "event") this.#hearEvent(frame);
    else if (frame.type === "welcome") this.#welcome(frame);
    else if (frame.type === "join" || frame.type === "update") this.#memberIs(frame.user, frame.meta);
    else if (frame.type === "leave") this.#memberWent(frame.user);
    else if (frame.type === "gap") this.#gap(frame);
    else if (frame.type === "ack") this.#settle(frame.id, ({ resolve }) => resolve(frame.serial), frame.serial);
    else if (frame.type === "error") this.#refused(frame);
  }

  #hearEvent({ type, ...event }) {
    this.#position = `${this.#epoch}:${event.serial}`;
    if (this.#own.delete(event.serial)) return;
    this.#events.tell(event.event, event);
    this.#every.tell("*", event);
  }

  #welcome({ session, user = null, position, members = {} }) {
    this.session = session;
    this.user = user;
    this.#epoch = position.split(":")[0];
    this.#position ??= position;
    this.#error = null;
    this.#openedAt = Date.now();
    for (const gone of [...this.members.keys()].filter((name) => !Object.hasOwn(members, name))) this.#memberWent(gone);
    for (const [name, meta] of Object.entries(members)) this.#memberIs(name, meta);
    this.#listenForSilence();
    this.#become("open");
    for (const { frame } of this.#pending.values()) this.#send(frame);
    if (this.#meta !== undefined && ![...this.#pending.values()].some(({ frame }) => frame.type === "presence"))
      this.#send({ type: "presence", meta: this.#meta });
  }

  #memberIs(user, meta) {
    const before = this.members.get(user);
    const known = this.members.has(user);
    this.members.set(user, meta);
    if (!known) this.#happenings.tell("join", { user, meta });
    else if (JSON.stringify(before) !== JSON.stringify(meta)) this.#happenings.tell("update", { user, meta });
  }

  #memberWent(user) {
    if (this.members.delete(user)) this.#happenings.tell("leave", { user });
  }

  #gap({ since, position }) {
    this.#position = position; // what is still kept follows, and is counted from there
    this.#happenings.tell("gap", { since, position });
  }

  #refused(frame) {
    const error = new SowerError(frame);
    if (frame.id !== undefined && this.#settle(frame.id, ({ reject }) => reject(error))) return;
    this.#error = error;
    if (this.state === "open") this.#happenings.tell("error", error);
  }

  // What is asked of the daemon

  #ask(frame) {
    if (this.state === "closed")
      return Promise.reject(new SowerError({ code: "closed", message: `The channel ${this.name} was left.` }));
    if (this.#pending.size >= MOST_PENDING) {
      const message = `${MOST_PENDING} publishes wait for their acknowledgement already.`;
      return Promise.reject(new SowerError({ code: "too_many_pending", message, retry: true }));
    }
    return new Promise((resolve, reject) => {
      this.#pending.set(frame.id, { frame, resolve, reject });
      if (this.state === "open") this.#send(frame);
    });
  }

  #send(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  #settle(id, how, serial) {
    const asked = this.#pending.get(id);
    if (!asked) return false;
    this.#pending.delete(id);
    if (serial && asked.frame.type === "publish" && !asked.frame.echo) this.#remember(serial);
    how(asked);
    return true;
  }

  /** What was published without echo: a replay would bring it, unless its acknowledgement was lost with the connection. */
  #remember(serial) {
    this.#own.add(serial);
    if (this.#own.size > MOST_PENDING) this.#own.delete(this.#own.values().next().value);
  }

  #listenForSilence() {
    const silent = Date.now() - this.#heardAt;
    if (silent >= SILENT_FOR) this.#probe();
    this.#timers.silence = setTimeout(() => this.#listenForSilence(), Math.max(SILENT_FOR - silent, ANSWER_WITHIN));
  }

  #probe() {
    this.#send({ type: "ping" });
    clearTimeout(this.#timers.answer);
    this.#timers.answer = setTimeout(() => this.#wait(), ANSWER_WITHIN);
  }

  #renewBefore(end) {
    if (end === null) return;
    const left = end - Date.now();
    const wait = Math.min(Math.max(left - RENEW_BEFORE, left / 2, 1000), LONGEST_TIMER);
    this.#timers.renew = setTimeout(() => this.#renew(this.#turn), wait);
  }

  async #renew(turn) {
    try {
      const token = await this.#settings.token(this.name);
      if (turn !== this.#turn || !token) return;
      this.#send({ type: "token", token });
      this.#renewBefore(endOf(token));
    } catch (error) {
      if (turn === this.#turn) this.#happenings.tell("error", error); // the connection ends with its token, and comes back
    }
  }

  async #page(path) {
    const { base, key } = this.#settings;
    const address = new URL(path, base);
    const token = await this.#settings.token(this.name);
    if (key) address.searchParams.set("key", key);
    const answer = await fetch(address, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    const body = await answer.json();
    if (!answer.ok) throw new SowerError(body.error);
    const { events, gap, position, next } = body;
    return { events, gap, position, next: next && (() => this.#page(next.slice(1))) };
  }
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12)); // randomUUID is only there on pages that came over TLS
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function isOnline() {
  return globalThis.navigator?.onLine !== false;
}

/** When a token ends, in ms since 1970; null where it does not say so. */
function endOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(claims)).exp * 1000 || null;
  } catch {
    return null;
  }
}
