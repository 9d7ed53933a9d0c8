/** The types of sower.js, Sower's client for browsers and Node. */

export interface Options {
  /** Where the daemon is; left out, where sower.js was loaded from. */
  url?: string | URL;
  /** The app's public key; left out, the daemon's first app. */
  key?: string;
  /** Who this is on public channels; a token says it on private ones. */
  user?: string;
  /** A token, or what fetches one for a channel. It is asked at each connect, and before a token ends. */
  token?: string | ((channel: string) => string | null | undefined | Promise<string | null | undefined>);
  /** Where there is no global WebSocket (Node before 22): that of the package ws. */
  WebSocket?: unknown;
}

export interface Event<Data = any> {
  event: string;
  data: Data;
  /** 17 digits: the event's place in the channel's order. */
  serial: string;
  /** Milliseconds since 1970. */
  time: number;
  user?: string;
  /** "base64" where data is a base64 text of bytes. */
  encoding?: string;
  extra?: Record<string, unknown>;
}

export interface Member<Meta = any> {
  user: string;
  meta: Meta;
}

export interface Gap {
  since: string;
  position: string;
}

export interface Page<Data = any> {
  events: Event<Data>[];
  /** Whether something within the bounds that were asked for is no longer kept. */
  gap: boolean;
  position: string;
  next: (() => Promise<Page<Data>>) | null;
}

export type State = "connecting" | "open" | "waiting" | "offline" | "closed";

export interface Happenings {
  state: State;
  /** Something after `since` is gone for good: load what the page shows anew. */
  gap: Gap;
  error: SowerError | Error;
  join: Member;
  leave: { user: string };
  update: Member;
}

export class SowerError extends Error {
  readonly code: string;
  readonly hint: string;
  readonly retry: boolean;
  /** Seconds. */
  readonly retryAfter?: number;
}

export interface Channel {
  readonly name: string;
  readonly state: State;
  /** Who is here, by user id; empty on a channel without presence. */
  readonly members: ReadonlyMap<string, any>;
  readonly user: string | null;
  readonly session: string | null;
  readonly position: string | null;
  on<Data = any>(event: string, listener: (event: Event<Data>) => void): () => boolean;
  onAny(listener: (event: Event) => void): () => boolean;
  observe<What extends keyof Happenings>(what: What, listener: (value: Happenings[What]) => void): () => boolean;
  /** Resolves to the serial once the daemon has accepted it; on a channel with history it is stored then. */
  publish(event: string, data?: unknown, options?: { id?: string; echo?: boolean }): Promise<string>;
  update(meta: unknown): Promise<void>;
  history(options?: { limit?: number; order?: "asc" | "desc"; since?: string; before?: string }): Promise<Page>;
  close(): void;
  wake(): void;
}

export class Sower {
  constructor(options?: Options);
  subscribe(name: string): Channel;
  close(): void;
}
