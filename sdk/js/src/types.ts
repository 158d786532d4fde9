/**
 * The words of the conversation protocol, as the client sees them, and the shape of what the page draws from.
 *
 * Source: the conversation protocol, version 1 (docs/protocol.md). All times are Unix milliseconds, all text
 * positions count UTF-16 units (what `String.prototype.length` counts).
 */

export type SpeakerKind = 'user' | 'ai' | 'agent' | 'system';
export interface By {
  kind: SpeakerKind;
  id: string;
  name?: string;
}
export type MsgStatus = 'complete' | 'stopped' | 'failed' | 'blocked';
export type RunState = 'queued' | 'thinking' | 'writing' | 'tool' | 'saving';

/** A durable event: a publication of `conv:<id>` that has an offset. Unknown `t` are ignored. */
export interface MsgEvent {
  t: 'msg';
  id: string;
  parent: string | null;
  by: By;
  text: string;
  status: MsgStatus;
  ts: number;
  cid?: string;
  answer?: { run: string; msg: string; persona: string; model: string };
  run?: string;
  model?: string;
  why?: string;
  usage?: { in: number; out: number };
  degraded?: string;
}
export interface RunEvent {
  t: 'run';
  run: string;
  msg: string;
  parent: string;
  persona: string;
  model: string;
  ts: number;
  cause: 'regenerate' | 'continue' | 'proactive' | 'agent';
  by: By;
}
export interface RedactEvent {
  t: 'redact';
  msg: string;
  text?: string;
  why: string;
  ts: number;
  by: By;
}
export interface StateEvent {
  t: 'state';
  k: string;
  v: unknown;
  ts: number;
  by: By;
}
export type DurableEvent = MsgEvent | RunEvent | RedactEvent | StateEvent;

/** Ephemeral events: publications without an offset; may be lost, merged or repeated. */
export interface DeltaEvent {
  t: 'd';
  r: string;
  m: string;
  p: number;
  s: string;
  k?: 'r';
}
export interface StatusEvent {
  t: 'st';
  r: string;
  st: RunState | 'checking';
  pos?: number;
  eta_ms?: number;
}
export interface TypingEvent {
  t: 'typing';
  u: string;
  on: boolean;
}
export interface ReadEvent {
  t: 'read';
  u: string;
  o: number;
}
export type EphemeralEvent = DeltaEvent | StatusEvent | TypingEvent | ReadEvent;

/** One active run of a snapshot (subscribe result `data.runs[]`) or of `run.get`. */
export interface RunSnapshot {
  r: string;
  m: string;
  parent: string;
  by: By;
  st: RunState;
  text: string;
  p: number;
  p0?: number;
  pos?: number;
  eta_ms?: number;
  model?: string;
}
export interface Snapshot {
  as_of: number;
  mode: string;
  title: string;
  typing: string[];
  read: Record<string, number>;
  runs: RunSnapshot[];
}

/** A stored message as the page shows it. `siblings` holds the ids of all variants, this one included, oldest first. */
export interface Message {
  id: string;
  parent: string | null;
  by: By;
  text: string;
  status: MsgStatus;
  ts: number;
  offset: number;
  cid?: string;
  run?: string;
  model?: string;
  why?: string;
  usage?: { in: number; out: number };
  answer?: { run: string; msg: string; persona: string; model: string };
  siblings?: string[];
  /** Why it was replaced or erased (a `redact` event); `text` is then the new text or ''. */
  redacted?: string;
}

/** An answer that is being made. `text` is what has been shown so far; `known` false = a gap, run.get was asked. */
export interface LiveRun {
  run: string;
  msg: string;
  parent: string | null;
  by: By;
  st: RunState;
  text: string;
  known: boolean;
  pos?: number;
  eta_ms?: number;
  /** Ids of all variants of this answer, its own reserved id included, oldest first. */
  siblings?: string[];
}

/** A message of mine that the log has not confirmed yet. Kept in the outbox; sent once, in order. */
export type OutgoingState =
  | { is: 'sending' } // handed to the line, no outcome yet
  | { is: 'waiting' } // the line is down; goes by itself when it is back
  | { is: 'refused'; code: string; message: string; retry_at?: number; final: boolean }
  | { is: 'failed'; code: number; message: string };
export interface Outgoing {
  cid: string;
  text: string;
  created: number;
  state: OutgoingState;
  during_run?: 'queue' | 'cancel' | 'reject';
}

/* A temporary error of the server shows as `refused` with `final: false` and one of the codes `unavailable` (503),
 * `rate_limited` (111) or `error_<code>`; the client tries again at `retry_at`. A text that is larger than
 * `limits.text_bytes` is refused here, as `too_long`, and never put on the line. */

/** Everything one conversation's view is drawn from. Immutable: each change is a new object. */
export interface ConversationState {
  conv: string;
  /** loading: nothing shown yet. live: in step with the log. stale: the line is down, shown state may be old.
   *  gone: deleted or not visible to this user. */
  phase: 'loading' | 'live' | 'stale' | 'gone';
  title: string;
  mode: string;
  persona?: string;
  epoch: string;
  offset: number;
  /** The shown path, oldest first, without what still runs. */
  messages: Message[];
  /** Older messages exist before messages[0]; pass to loadOlder. */
  older: boolean;
  loadingOlder: boolean;
  /** Active and queued runs on the shown path, in order of start. */
  runs: LiveRun[];
  outgoing: Outgoing[];
  typing: string[];
  read: Record<string, number>;
  /** Offset of my read position when the view was opened: where the unread line stands. */
  unreadFrom: number;
}

export interface ConversationSummary {
  id: string;
  title: string;
  head: number;
  unread: number;
  last?: string;
  mode: string;
  updated: number;
  archived?: boolean;
  persona?: string;
  /** A run of this conversation is active (from the inbox's `run` events). */
  running?: boolean;
}

export interface Limits {
  text_bytes: number;
  parts: number;
  file_bytes: number;
}
export interface Me {
  user: string;
  name?: string;
  guest: boolean;
  limits: Limits;
  version: string;
  personas?: PersonaCard[];
}
export interface PersonaCard {
  id: string;
  name: string;
  greeting?: string;
  suggestions?: string[];
}
/** connecting: first try or a retry is on. online. offline: the socket died; `since` = when it was noticed. */
export interface LineState {
  is: 'connecting' | 'online' | 'offline' | 'closed';
  since: number;
  code?: number;
  reason?: string;
}

export interface Outcome {
  status: 'accepted' | 'duplicate' | 'refused';
  msg?: string;
  run?: string;
  offset?: number;
  epoch?: string;
  reason?: { code: string; message: string; retry_ms?: number; category?: string; help?: string };
}
/** Thrown by calls. `code` is the protocol's error code; temporary = the same call may succeed later. */
export class KithError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly temporary = false,
    readonly field?: string,
  ) {
    super(message);
    this.name = 'KithError';
  }
}

/** Where the client keeps what must outlive a reload (token, outbox, drafts). The page gives IndexedDB, tests memory. */
export interface Store {
  get<T>(key: string): Promise<T | undefined>;
  set(key: string, value: unknown): Promise<void>;
  delete(key: string): Promise<void>;
  keys(prefix: string): Promise<string[]>;
}

/** What a view holds of one conversation. `state` is always the newest; listeners hear each change once, synchronously. */
export interface Conversation {
  readonly id: string;
  readonly state: ConversationState;
  subscribe(listener: (s: ConversationState) => void): () => void;
  /** Never throws for refusals: they show as outgoing[].state. Resolves with the outcome, or undefined if it waits. */
  send(text: string, options?: { during_run?: 'queue' | 'cancel' | 'reject' }): Promise<Outcome | undefined>;
  retry(cid: string): void;
  /** Removes a message of mine that was not stored (refused, failed or waiting). Returns its text. */
  discard(cid: string): string | undefined;
  /** Stops one run, or everything that runs in this conversation. */
  stop(run?: string): Promise<Outcome>;
  regenerate(msg: string, options?: { continue?: boolean }): Promise<Outcome>;
  loadOlder(limit?: number): Promise<void>;
  setTyping(on: boolean): void;
  setRead(offset: number): void;
  /** Leaves the channel; the object is dead afterwards. */
  close(): void;
}

export interface KithClient {
  readonly line: LineState;
  readonly me: Me | undefined;
  /** Newest first. Kept in step by the inbox. */
  readonly list: ConversationSummary[];
  onLine(f: (l: LineState) => void): () => void;
  onMe(f: (m: Me) => void): () => void;
  onList(f: (l: ConversationSummary[]) => void): () => void;
  connect(): void;
  close(): void;
  conversation(id: string): Conversation;
  create(options?: { title?: string; persona?: string }): Promise<string>;
  rename(conv: string, title: string): Promise<void>;
  remove(conv: string): Promise<void>;
  loadMoreList(): Promise<void>;
  /** Escape hatch: any command of the protocol's table. */
  call<T = unknown>(command: string, data: unknown): Promise<T>;
}

/* What commands answer. */

/** A cursor of a page: opaque, given back as `before`. */
export type Cursor = number | string;
export interface ConvObject {
  id: string;
  title: string;
  persona?: string;
  mode: string;
  role?: string;
  offset: number;
  epoch: string;
  created: number;
  updated: number;
  archived?: boolean;
  meta?: unknown;
}
/** `conv.open`: the shown path, oldest first; `next` is the cursor of the page before it (absent = none).
 *  `head` is taken when given; otherwise the last message is the head. */
export interface OpenAnswer {
  conv: ConvObject & { head?: unknown };
  messages: (Omit<MsgEvent, 't'> & { offset: number; siblings?: string[]; redacted?: string })[];
  offset: number;
  epoch: string;
  next?: Cursor;
}
export interface ListAnswer {
  items: ConversationSummary[];
  next?: Cursor;
}
/** `run.get`: the entry of a run that is active, or the final message of one that ended. A server may give that message
 *  as it is, without `msg` around it: `runAnswer` makes both the same. */
export type RunAnswer = RunSnapshot | { msg: MsgEvent & { offset: number } };
export function runAnswer(data: RunAnswer | (MsgEvent & { offset: number })): RunAnswer {
  return 't' in data && data.t === 'msg' ? { msg: data } : (data as RunAnswer);
}
/** Events of the user's inbox. */
export type InboxEvent =
  | { t: 'conv'; conv: ConversationSummary }
  | { t: 'conv.gone'; conv: string }
  | { t: 'run'; conv: string; run: string; on: boolean };
