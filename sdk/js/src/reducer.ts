/**
 * The client's whole rule: one pure function from what was known and what was heard to what is known now.
 *
 *     conv.open ──────────┐
 *     snapshot ───────────┤
 *     publications ───────┼──> fold(state, action) ──> state     (drawn from by the page)
 *     run.get ────────────┤                              └─ needOpen, needRuns: what has to be asked for
 *     clock, line, outbox ┘
 *
 * Two cursors run over the one log. `offset` is how far messages and their tree have been folded; `runsOffset` is how
 * far the *set of active runs* has been: a snapshot is ahead of the messages that recovery is about to deliver, and a
 * promise in such a message must not bring back a run that has ended since.
 *
 * No clock, no randomness, no I/O: time comes with the action.
 * Source: the conversation protocol, version 1, sections 3 to 5 (docs/protocol.md).
 */
import type {
  By,
  ConversationState,
  Cursor,
  DeltaEvent,
  LiveRun,
  Message,
  MsgEvent,
  OpenAnswer,
  Outgoing,
  RedactEvent,
  RunAnswer,
  RunEvent,
  RunSnapshot,
  RunState,
  Snapshot,
  StateEvent,
  StatusEvent,
  TypingEvent,
  ReadEvent,
} from './types.js';

/** Milliseconds after which somebody who was typing no longer is. */
export const TYPING_MS = 6000;
/** Pieces of text that are kept for one run while its gap is being filled. */
const AHEAD_MAX = 512;
const STRANGERS_MAX = 32;
/** Events kept while `conv.open` is under way. More than this is noticed as a gap, and opened anew. */
const RECENT_MAX = 2000;

/** One run as the fold keeps it: `text` covers [base, base + text.length) of the answer; `ahead` lies after a gap. */
interface Run {
  readonly run: string;
  readonly msg: string;
  readonly parent: string | null;
  readonly by: By;
  readonly st: RunState;
  readonly text: string;
  readonly base: number;
  readonly ahead: readonly { p: number; s: string }[];
  readonly pos?: number;
  readonly eta_ms?: number;
  /** Heard of by an ephemeral event only: where it hangs in the tree is not known yet. */
  readonly stranger: boolean;
  /** run.get said that it does not exist: do not ask again. */
  readonly lost: boolean;
}

interface Logged {
  readonly offset: number;
  readonly data: unknown;
}

/** The view of one conversation and what is needed to keep it in step. Only `ConversationState` is for the page. */
export interface Fold extends ConversationState {
  /** Id of this user; '' until the connection told. */
  readonly me: string;
  readonly online: boolean;
  /** The channel is subscribed on the present connection. */
  readonly subscribed: boolean;
  /** `conv.open` has answered at least once. */
  readonly opened: boolean;
  /** The messages are in step with the log: each durable event that comes is the next one. */
  readonly synced: boolean;
  readonly gone: boolean;
  /** The newest offset that is known to exist, in the log that the channel (`subEpoch`) is subscribed to. */
  readonly top: number;
  readonly subEpoch: string;
  readonly runsOffset: number;
  readonly head: string | null;
  /** Parent of the oldest loaded message: where a walk may end without the root (null = the root is loaded). */
  readonly boundary: string | null;
  readonly next?: Cursor;
  /** The message that `next` stands before. */
  readonly nextOf?: string;
  readonly nodes: ReadonlyMap<string, Message>;
  /** Parent of every reserved answer id, whether it has ended or not. */
  readonly links: ReadonlyMap<string, string | null>;
  /** Children of a message ('' = the roots), oldest first, reserved ids included. */
  readonly kids: ReadonlyMap<string, readonly string[]>;
  /** Parents ('' = the root's place) of which all children are known. */
  readonly whole: ReadonlySet<string>;
  readonly live: ReadonlyMap<string, Run>;
  /** Reserved ids that the shown path passes. */
  readonly onPath: ReadonlySet<string>;
  readonly recent: readonly Logged[];
  /** Redactions heard live: an older page that was read before them is corrected by them. */
  readonly redactions: ReadonlyMap<string, { offset: number; text: string; why: string }>;
  readonly typingUntil: ReadonlyMap<string, number>;
  readonly unreadSet: boolean;
  /** The state cannot be brought in step by events: ask `conv.open`. */
  readonly needOpen: boolean;
  /** Runs whose text has a gap: ask `run.get`. */
  readonly needRuns: readonly string[];
}

export type Action =
  | { kind: 'me'; user: string }
  | { kind: 'line'; online: boolean }
  /** `recovered`: the publications since the last known position follow. `position`: where the stream stood. */
  | {
      kind: 'subscribed';
      snapshot?: Snapshot;
      position?: { offset: number; epoch: string };
      recovered: boolean;
      now: number;
    }
  | { kind: 'unsubscribed' }
  | { kind: 'opened'; answer: OpenAnswer; now: number }
  | { kind: 'loadingOlder'; on: boolean }
  | { kind: 'older'; answer: OpenAnswer }
  /** A publication of the channel. `offset` > 0 = durable. Anything that is not understood is passed over. */
  | { kind: 'publication'; data: unknown; offset?: number; now: number }
  | { kind: 'run'; run: string; answer: RunAnswer }
  | { kind: 'runLost'; run: string }
  | { kind: 'read'; user: string; offset: number }
  | { kind: 'outgoing'; list: readonly Outgoing[] }
  | { kind: 'tick'; now: number }
  | { kind: 'gone' };

/** What is known of a conversation before anything was heard. */
export function emptyFold(conv: string, me = ''): Fold {
  return {
    conv,
    phase: 'loading',
    title: '',
    mode: 'ai',
    epoch: '',
    offset: 0,
    messages: [],
    older: false,
    loadingOlder: false,
    runs: [],
    outgoing: [],
    typing: [],
    read: {},
    unreadFrom: 0,
    me,
    online: false,
    subscribed: false,
    opened: false,
    synced: false,
    gone: false,
    top: 0,
    subEpoch: '',
    runsOffset: 0,
    head: null,
    boundary: null,
    nodes: new Map(),
    links: new Map(),
    kids: new Map(),
    whole: new Set(),
    live: new Map(),
    onPath: new Set(),
    recent: [],
    redactions: new Map(),
    typingUntil: new Map(),
    unreadSet: false,
    needOpen: true,
    needRuns: [],
  };
}

/** Folds one action into the state. Pure; returns the same object when nothing changed. */
export function fold(s: Fold, a: Action): Fold {
  switch (a.kind) {
    case 'me':
      return a.user === s.me ? s : { ...s, me: a.user };
    case 'line':
      return foldLine(s, a.online);
    case 'subscribed':
      return foldSubscribed(s, a);
    case 'unsubscribed':
      return s.subscribed ? quiet(s, { subscribed: false }) : s;
    case 'opened':
      return foldOpened(s, a.answer);
    case 'loadingOlder':
      return s.loadingOlder === a.on ? s : { ...s, loadingOlder: a.on };
    case 'older':
      return foldOlder(s, a.answer);
    case 'publication':
      return a.offset !== undefined && a.offset > 0
        ? foldDurable(s, { offset: a.offset, data: a.data })
        : foldEphemeral(s, a.data, a.now);
    case 'run':
      return foldRunAnswer(s, a.run, a.answer);
    case 'runLost':
      return foldRunLost(s, a.run);
    case 'read':
      return foldRead(s, a.user, a.offset);
    case 'outgoing':
      return sameItems(a.list, s.outgoing) ? s : { ...s, outgoing: a.list.slice() };
    case 'tick':
      return withTyping(s, s.typingUntil, a.now);
    case 'gone':
      return s.gone ? s : withPhase({ ...s, gone: true, runs: [], live: new Map(), needOpen: false, needRuns: [] });
  }
}

/** When the next 'tick' is due, in the clock of the actions; undefined = none is. */
export function nextTick(s: Fold): number | undefined {
  let least: number | undefined;
  for (const until of s.typingUntil.values()) if (least === undefined || until < least) least = until;
  return least;
}

/* ---- line and phase ------------------------------------------------------------------------------------------ */

function withPhase(s: Fold): Fold {
  const phase = s.gone ? 'gone' : !s.opened ? 'loading' : s.online && s.subscribed && s.synced ? 'live' : 'stale';
  return phase === s.phase ? s : { ...s, phase };
}

function foldLine(s: Fold, online: boolean): Fold {
  if (online === s.online) return s;
  return online ? withPhase({ ...s, online }) : quiet(s, { online, subscribed: false });
}

/** The line or the channel is down: what only an open channel keeps true is cleared. */
function quiet(s: Fold, change: Partial<Fold>): Fold {
  const live = new Map<string, Run>();
  for (const [id, r] of s.live) live.set(id, { ...r, pos: undefined, eta_ms: undefined });
  return withPhase(withRuns({ ...s, ...change, typing: [], typingUntil: new Map() }, live));
}

/* ---- subscribed, opened -------------------------------------------------------------------------------------- */

function foldSubscribed(s: Fold, a: Extract<Action, { kind: 'subscribed' }>): Fold {
  const snapshot = a.snapshot;
  const epoch = a.position?.epoch ?? '';
  const asOf = snapshot?.as_of ?? a.position?.offset ?? 0;
  const sameLog = epoch === '' || s.epoch === '' || epoch === s.epoch;
  const inStep = s.opened && sameLog && (a.recovered ? s.synced : s.offset === asOf);

  const live = new Map<string, Run>();
  for (const r of snapshot?.runs ?? [])
    if (!s.nodes.has(r.m)) live.set(r.r, { ...joinText(sameLog ? s.live.get(r.r) : undefined, r), ahead: [] });
  let t: Fold = {
    ...s,
    subscribed: true,
    subEpoch: epoch,
    runsOffset: asOf,
    top: a.recovered ? Math.max(s.top, asOf) : asOf,
    epoch: s.epoch === '' ? epoch : s.epoch,
    title: snapshot?.title ?? s.title,
    mode: snapshot?.mode ?? s.mode,
    synced: inStep,
    needOpen: s.needOpen || !inStep,
    recent: a.recovered ? s.recent : [],
    read: snapshot === undefined ? s.read : newestRead(s.read, snapshot.read ?? {}),
  };
  // Where events are still to be delivered, they tell of the variants in their order; only the links are early.
  if (inStep && s.offset >= asOf) for (const r of live.values()) t = promise(t, r.msg, r.parent);
  else t = { ...t, links: new Map([...t.links, ...[...live.values()].map((r) => [r.msg, r.parent] as const)]) };
  t = withTyping(t, new Map((snapshot?.typing ?? []).map((u) => [u, a.now + TYPING_MS])), a.now);
  return settle(withShown(withRuns(t, live)));
}

function foldOpened(s: Fold, answer: OpenAnswer): Fold {
  const path = new Path(new Map(), new Map(), new Map(), new Set(answer.offset === 0 ? [''] : []));
  // A reserved id and its place stay known as long as its run is: the stored path cannot name it.
  for (const r of s.live.values()) if (!r.stranger) path.links.set(r.msg, r.parent);
  path.take(answer);
  const { nodes, links, kids, whole } = path;
  const first = answer.messages[0];
  const last = answer.messages[answer.messages.length - 1];
  const given = answer.conv.head;
  const head = typeof given === 'string' ? given : (last?.id ?? null);
  if (head !== null && !nodes.has(head) && !links.has(head)) links.set(head, last?.id ?? null);
  // What hangs on the end of the path is not in the answer. Only a question may have more than its first answer there.
  if (last !== undefined && last.answer === undefined) whole.add(last.id);
  let t: Fold = {
    ...s,
    opened: true,
    synced: true,
    needOpen: false,
    recent: [],
    loadingOlder: false,
    nodes,
    links,
    kids,
    whole,
    head,
    epoch: answer.epoch,
    offset: answer.offset,
    top: s.subscribed ? Math.max(s.top, answer.offset) : answer.offset,
    boundary: first?.parent ?? null,
    next: answer.next,
    nextOf: first?.id,
    title: answer.conv.title ?? s.title,
    mode: answer.conv.mode ?? s.mode,
    persona: answer.conv.persona ?? s.persona,
  };
  const live = new Map(s.live);
  for (const r of s.live.values()) {
    if (nodes.has(r.msg)) live.delete(r.run);
    else if (!r.stranger) t = promise(t, r.msg, r.parent);
  }
  t = withShown(withRuns(dropConfirmed(t, nodes.values()), live));

  // Events that came while the answer was under way go on top of it. What is still missing then, or another log than
  // the one that is subscribed, means that the answer was taken too early.
  for (const e of s.recent) t = foldDurable(t, e);
  const otherLog = t.subscribed && t.subEpoch !== '' && t.epoch !== '' && t.subEpoch !== t.epoch;
  if (otherLog || (t.subscribed && t.offset < t.top)) t = { ...t, needOpen: true, synced: false };
  return settle(t);
}

/** The tree while the pages of `conv.open` are put into it. */
class Path {
  constructor(
    readonly nodes: Map<string, Message>,
    readonly links: Map<string, string | null>,
    readonly kids: Map<string, readonly string[]>,
    readonly whole: Set<string>,
  ) {}

  /** Adds a page. A message that follows another one without naming it hangs on an answer that has not ended. */
  take(answer: OpenAnswer): void {
    let before: Message | undefined;
    for (const m of answer.messages) {
      const node = toMessage(m, m.offset);
      if (!this.nodes.has(node.id)) this.nodes.set(node.id, node);
      if (node.answer !== undefined) this.links.set(node.answer.msg, node.id);
      if (before !== undefined && node.parent !== null && node.parent !== before.id && !this.links.has(node.parent))
        this.links.set(node.parent, before.id);
      const group = node.parent ?? '';
      this.kids.set(group, union(m.siblings ?? [], union(this.kids.get(group) ?? [], [node.id])));
      this.whole.add(group);
      before = node;
    }
  }
}

/** Phase, and the place of the unread line once both the log and the snapshot have spoken. */
function settle(s: Fold): Fold {
  let t = s;
  if (!t.unreadSet && t.opened && t.subscribed) t = { ...t, unreadSet: true, unreadFrom: t.read[t.me] ?? 0 };
  return withPhase(t);
}

function foldOlder(s: Fold, answer: OpenAnswer): Fold {
  const oldest = s.messages[0];
  const first = answer.messages[0];
  const last = answer.messages[answer.messages.length - 1];
  if (!s.opened || oldest === undefined) return { ...s, loadingOlder: false };
  if (first === undefined || last === undefined)
    return { ...s, loadingOlder: false, older: false, next: undefined, boundary: oldest.parent };
  const path = new Path(new Map(s.nodes), new Map(s.links), new Map(s.kids), new Set(s.whole));
  path.take(answer);
  const { nodes, links, kids, whole } = path;
  // The page belongs to another path: the head moved while it was under way.
  if (oldest.parent !== null && !nodes.has(oldest.parent) && !links.has(oldest.parent))
    return { ...s, loadingOlder: false, needOpen: true };
  for (const m of answer.messages) {
    const redaction = s.redactions.get(m.id);
    const node = nodes.get(m.id);
    if (redaction !== undefined && node !== undefined && redaction.offset > answer.offset)
      nodes.set(m.id, { ...node, text: redaction.text, redacted: redaction.why });
  }
  return withShown({
    ...s,
    loadingOlder: false,
    nodes,
    links,
    kids,
    whole,
    next: answer.next,
    nextOf: first.id,
    boundary: first.parent,
  });
}

/* ---- durable events ------------------------------------------------------------------------------------------ */

function foldDurable(s: Fold, e: Logged): Fold {
  const listen = s.needOpen || !s.synced;
  let t = s;
  if (listen) t = { ...t, recent: [...t.recent, e].slice(-RECENT_MAX) };
  if (e.offset > t.top) t = { ...t, top: e.offset };
  t = foldRuns(t, e);
  if (!t.synced || e.offset <= t.offset) return t;
  if (e.offset > t.offset + 1)
    return withPhase({ ...t, needOpen: true, synced: false, recent: listen ? t.recent : [e] });
  return withShown(foldTree({ ...t, offset: e.offset }, e));
}

/** What an event says about the set of active runs. An end always counts; a beginning only once. */
function foldRuns(s: Fold, e: Logged): Fold {
  const kind = kindOf(e.data);
  const isNew = e.offset > s.runsOffset;
  const t: Fold = isNew ? { ...s, runsOffset: e.offset } : s;
  if (kind === 'msg') {
    const m = e.data as MsgEvent;
    let live: Map<string, Run> | undefined;
    if (m.run !== undefined && t.live.has(m.run)) (live = new Map(t.live)).delete(m.run);
    const p = m.answer;
    if (p !== undefined && isNew && !t.nodes.has(p.msg)) {
      live ??= new Map(t.live);
      live.set(p.run, adopt(live.get(p.run), promisedRun(p.run, p.msg, m.id, p.persona, live)));
    }
    return live === undefined ? t : withRuns(t, live);
  }
  if (kind === 'run' && isNew) {
    const r = e.data as RunEvent;
    if (t.nodes.has(r.msg)) return t;
    const live = new Map(t.live);
    live.set(r.run, adopt(live.get(r.run), promisedRun(r.run, r.msg, r.parent, r.persona, live)));
    return withRuns(t, live);
  }
  return t;
}

function promisedRun(
  run: string,
  msg: string,
  parent: string | null,
  persona: string,
  live: ReadonlyMap<string, Run>,
): Run {
  let busy = false;
  for (const r of live.values()) if (r.run !== run && !r.stranger) busy = true;
  return {
    run,
    msg,
    parent,
    by: { kind: 'ai', id: persona },
    st: busy ? 'queued' : 'thinking',
    text: '',
    base: 0,
    ahead: [],
    stranger: false,
    lost: false,
  };
}

/** A run that was heard of before its place was: keep its text, take its place. */
function adopt(heard: Run | undefined, promised: Run): Run {
  if (heard === undefined) return promised;
  if (!heard.stranger) return heard;
  return drain({ ...heard, msg: promised.msg, parent: promised.parent, by: promised.by, stranger: false, lost: false });
}

/** What an event says about messages, their tree, and the rest of the view. */
function foldTree(s: Fold, e: Logged): Fold {
  switch (kindOf(e.data)) {
    case 'msg':
      return foldMsg(s, e.data as MsgEvent, e.offset);
    case 'run': {
      const r = e.data as RunEvent;
      return promise(s, r.msg, r.parent);
    }
    case 'redact':
      return foldRedact(s, e.data as RedactEvent, e.offset);
    case 'state':
      return foldState(s, e.data as StateEvent);
    default:
      return s;
  }
}

function foldMsg(s: Fold, m: MsgEvent, offset: number): Fold {
  const node = toMessage(m, offset);
  const extended =
    node.parent === s.head ||
    (node.parent !== null &&
      !s.nodes.has(node.parent) &&
      s.links.has(node.parent) &&
      s.links.get(node.parent) === s.head);
  const nodes = new Map(s.nodes);
  nodes.set(node.id, node);
  let t: Fold = { ...s, nodes, whole: new Set(s.whole).add(node.id), head: extended ? node.id : s.head };
  t = addKid(t, node.parent, node.id);
  if (node.answer !== undefined) t = promise(t, node.answer.msg, node.id);
  t = dropConfirmed(t, [node]);
  if (t.typingUntil.has(node.by.id)) {
    const until = new Map(t.typingUntil);
    until.delete(node.by.id);
    t = withTyping(t, until);
  }
  return t;
}

function foldRedact(s: Fold, r: RedactEvent, offset: number): Fold {
  const text = r.text ?? '';
  const why = r.why ?? '';
  const redactions = new Map(s.redactions).set(r.msg, { offset, text, why });
  const old = s.nodes.get(r.msg);
  if (old === undefined) return { ...s, redactions };
  return { ...s, redactions, nodes: new Map(s.nodes).set(r.msg, { ...old, text, redacted: why }) };
}

function foldState(s: Fold, e: StateEvent): Fold {
  const v = e.v;
  if (e.k === 'title') return typeof v === 'string' ? { ...s, title: v } : s;
  if (e.k === 'head') return typeof v === 'string' || v === null ? { ...s, head: v } : s;
  if (e.k === 'mode') {
    if (typeof v === 'string') return { ...s, mode: v };
    const mode = (v as { mode?: unknown } | null)?.mode;
    return typeof mode === 'string' ? { ...s, mode } : s;
  }
  if (e.k === `member:${s.me}` && v === null && s.me !== '') return fold(s, { kind: 'gone' });
  return s;
}

/** Remembers where a reserved answer id hangs, as a variant among its siblings. */
function promise(s: Fold, msg: string, parent: string | null): Fold {
  if (s.links.has(msg) && (s.kids.get(parent ?? '') ?? []).includes(msg)) return s;
  const links = new Map(s.links).set(msg, parent);
  return addKid({ ...s, links, whole: new Set(s.whole).add(msg) }, parent, msg);
}

function addKid(s: Fold, parent: string | null, id: string): Fold {
  const group = parent ?? '';
  const have = s.kids.get(group) ?? [];
  if (have.includes(id)) return s;
  const kids = new Map(s.kids);
  kids.set(group, [...have, id]);
  return { ...s, kids };
}

/** A message of mine that the log holds is no longer on its way. */
function dropConfirmed(s: Fold, logged: Iterable<Message>): Fold {
  if (s.outgoing.length === 0) return s;
  const seen = new Set<string>();
  const mine = (by: By): boolean => (s.me === '' ? by.kind === 'user' : by.id === s.me);
  for (const m of logged) if (m.cid !== undefined && mine(m.by)) seen.add(m.cid);
  const outgoing = s.outgoing.filter((o) => !seen.has(o.cid));
  return outgoing.length === s.outgoing.length ? s : { ...s, outgoing };
}

/* ---- ephemeral events ---------------------------------------------------------------------------------------- */

function foldEphemeral(s: Fold, data: unknown, now: number): Fold {
  switch (kindOf(data)) {
    case 'd':
      return foldDelta(s, data as DeltaEvent);
    case 'st':
      return foldStatus(s, data as StatusEvent);
    case 'typing': {
      const e = data as TypingEvent;
      const until = new Map(s.typingUntil);
      if (e.on) until.set(e.u, now + TYPING_MS);
      else until.delete(e.u);
      return withTyping(s, until, now);
    }
    case 'read': {
      const e = data as ReadEvent;
      return foldRead(s, e.u, e.o);
    }
    default:
      return s;
  }
}

function foldDelta(s: Fold, d: DeltaEvent): Fold {
  // Reasoning text counts on its own and is not part of the answer.
  if (d.k !== undefined || s.nodes.has(d.m) || typeof d.s !== 'string') return s;
  const old = s.live.get(d.r);
  if (old === undefined) return crowded(s) ? s : withRun(s, addText(stranger(d.r, d.m), d.p, d.s));
  const r = addText(old, d.p, d.s);
  if (r === old) return s;
  const begun = r.st === 'queued' || r.st === 'thinking' || r.st === 'tool';
  return withRun(s, begun ? { ...r, st: 'writing', pos: undefined, eta_ms: undefined } : r);
}

function foldStatus(s: Fold, e: StatusEvent): Fold {
  // A verdict is awaited before the message is stored: there is no run to show it on yet.
  if (e.st === 'checking') return s;
  const old = s.live.get(e.r);
  if (old === undefined) return crowded(s) ? s : withRun(s, { ...stranger(e.r, ''), st: e.st });
  return withRun(s, { ...old, st: e.st, pos: e.pos, eta_ms: e.eta_ms });
}

function stranger(run: string, msg: string): Run {
  return {
    run,
    msg,
    parent: null,
    by: { kind: 'ai', id: '' },
    st: 'thinking',
    text: '',
    base: 0,
    ahead: [],
    stranger: true,
    lost: false,
  };
}

/** So many runs were heard of without their place that one more is not worth asking for. */
function crowded(s: Fold): boolean {
  let count = 0;
  for (const r of s.live.values()) if (r.stranger) count++;
  return count >= STRANGERS_MAX;
}

/** `have[0..p] + s`, or a gap. Positions and lengths are UTF-16 units, as of JavaScript's strings. */
function addText(r: Run, p: number, s: string): Run {
  const have = r.base + r.text.length;
  const end = p + s.length;
  if (end <= have && p >= r.base) return r;
  if (end <= r.base) return r;
  if (p > have) {
    if (r.ahead.length >= AHEAD_MAX || r.ahead.some((x) => x.p === p && x.s.length >= s.length)) return r;
    const ahead = [...r.ahead, { p, s }].sort((x, y) => x.p - y.p);
    return { ...r, ahead };
  }
  const text =
    p === have
      ? r.text + s
      : p >= r.base
        ? r.text.slice(0, p - r.base) + s
        : end >= have
          ? s
          : s + r.text.slice(end - r.base);
  return drain({ ...r, text, base: Math.min(r.base, p) });
}

/** Joins what lay after a gap, as far as the gap is closed. */
function drain(r: Run): Run {
  let { text } = r;
  let used = 0;
  for (const x of r.ahead) {
    const have = r.base + text.length;
    if (x.p > have) break;
    if (x.p + x.s.length > have) text = text.slice(0, x.p - r.base) + x.s;
    used++;
  }
  return used === 0 ? r : { ...r, text, ahead: r.ahead.slice(used) };
}

/** The entry of a snapshot as a run; text that begins at `p0` is joined to what was known before it. */
function joinText(old: Run | undefined, e: RunSnapshot): Run {
  const p0 = e.p0 ?? 0;
  let text = e.text ?? '';
  let base = p0;
  if (p0 > 0 && old !== undefined && old.base < p0 && old.base + old.text.length >= p0) {
    text = old.text.slice(0, p0 - old.base) + text;
    base = old.base;
  }
  return {
    run: e.r,
    msg: e.m,
    parent: e.parent ?? null,
    by: e.by,
    st: e.st,
    text,
    base,
    ahead: old?.ahead ?? [],
    pos: e.pos,
    eta_ms: e.eta_ms,
    stranger: false,
    lost: false,
  };
}

function foldRunAnswer(s: Fold, run: string, answer: RunAnswer): Fold {
  const old = s.live.get(run);
  if ('msg' in answer) {
    if (old === undefined) return s;
    const m = answer.msg;
    // Its event is still to come: show what it will say and wait for it.
    if (m.offset > s.offset) return withRun(s, { ...old, text: m.text, base: 0, ahead: [], lost: true });
    const live = new Map(s.live);
    live.delete(run);
    const nodes = new Map(s.nodes);
    if (!nodes.has(m.id)) nodes.set(m.id, toMessage(m, m.offset));
    return withShown(addKid(withRuns({ ...s, nodes }, live), m.parent, m.id));
  }
  // It ended while the answer was under way: nothing is asked for any more.
  if (old === undefined) return s;
  if (s.nodes.has(answer.m)) {
    const live = new Map(s.live);
    live.delete(run);
    return withRuns(s, live);
  }
  const fresh = joinText(undefined, answer);
  const [low, high] = old.base < fresh.base ? [old, fresh] : [fresh, old];
  const joined: Run = { ...fresh, text: low.text, base: low.base, ahead: old.ahead };
  const { text, base, ahead } = addText(joined, high.base, high.text);
  // A delta is newer than the state that the answer was taken in.
  const st = old.st === 'writing' && !old.stranger ? old.st : fresh.st;
  return withShown(withRun(promise(s, fresh.msg, fresh.parent), drain({ ...fresh, text, base, ahead, st })));
}

function foldRunLost(s: Fold, run: string): Fold {
  const old = s.live.get(run);
  return old === undefined ? s : withRun(s, { ...old, lost: true });
}

function foldRead(s: Fold, user: string, offset: number): Fold {
  if ((s.read[user] ?? 0) >= offset) return s;
  return { ...s, read: { ...s.read, [user]: offset } };
}

/* ---- what is shown ------------------------------------------------------------------------------------------- */

/** Walks from the head to the root (or to where loading ended) and makes the shown path. */
function withShown(s: Fold): Fold {
  const path: Message[] = [];
  const onPath = new Set<string>();
  // An answer that has ended is passed by its message only; while recovery is behind the snapshot, that may still come.
  const settled = s.subscribed && s.synced && s.offset >= s.runsOffset;
  const promised = new Set([...s.live.values()].map((r) => r.msg));
  let at = s.head;
  while (at !== null && !onPath.has(at)) {
    onPath.add(at);
    const node = s.nodes.get(at);
    if (node !== undefined) {
      path.push(node);
      at = node.parent;
    } else if (at === s.boundary && s.next !== undefined) break;
    else if (s.links.has(at) && (promised.has(at) || !settled)) at = s.links.get(at) ?? null;
    else break;
  }
  // `at` is now the root's null, or the id where the walk could not go on: fine only where loading ended, on the path
  // that the cursor is for.
  const ended = at === null || (at === s.boundary && (s.next === undefined || path[path.length - 1]?.id === s.nextOf));
  if (!ended && s.opened) return { ...s, needOpen: true };
  // A variant of something that was said before this client looked: only the server knows how many there are.
  const alone = path.some((m) => !s.whole.has(m.parent ?? '') && s.nodes.get(m.parent ?? '')?.answer?.msg !== m.id);
  const shown = new Map(s.messages.map((m) => [m.id, m]));
  const messages = path.reverse().map((m) => withSiblings(s, m, shown.get(m.id)));
  const t: Fold = {
    ...s,
    messages: sameItems(messages, s.messages) ? s.messages : messages,
    onPath,
    older: s.next !== undefined && s.boundary !== null,
    needOpen: s.needOpen || (s.opened && alone),
  };
  return withRuns(t, t.live);
}

/** A node as it is shown: with the ids of its variants. What has not changed stays the same object. */
function withSiblings(s: Fold, m: Message, shown: Message | undefined): Message {
  const siblings = s.kids.get(m.parent ?? '') ?? [m.id];
  if (shown !== undefined && sameItems(shown.siblings ?? [], siblings) && sameBut(shown, m)) return shown;
  return { ...m, siblings: siblings.slice() };
}

/** Whether a shown message still says what its node says (a node changes only by redaction). */
function sameBut(shown: Message, node: Message): boolean {
  return (
    shown.text === node.text &&
    shown.redacted === node.redacted &&
    shown.offset === node.offset &&
    shown.parent === node.parent
  );
}

function withRun(s: Fold, r: Run): Fold {
  const live = new Map(s.live);
  live.set(r.run, r);
  return withRuns(s, live);
}

/** Sets the runs, and derives from them what is shown and what must be asked for. */
function withRuns(s: Fold, live: ReadonlyMap<string, Run>): Fold {
  const runs: LiveRun[] = [];
  const needRuns: string[] = [];
  for (const r of live.values()) {
    const known = r.ahead.length === 0 && r.base === 0 && !r.stranger;
    if (!known && !r.lost) needRuns.push(r.run);
    const shown = !r.stranger && !s.nodes.has(r.msg) && (s.onPath.has(r.msg) || r.parent === s.head);
    if (!shown) continue;
    const siblings = s.kids.get(r.parent ?? '') ?? [r.msg];
    const old = s.runs.find((x) => x.run === r.run);
    if (
      old !== undefined &&
      old.text === r.text &&
      old.st === r.st &&
      old.known === known &&
      old.pos === r.pos &&
      old.eta_ms === r.eta_ms &&
      old.parent === r.parent &&
      old.by === r.by &&
      sameItems(old.siblings ?? [], siblings)
    ) {
      runs.push(old);
      continue;
    }
    const view: LiveRun = {
      run: r.run,
      msg: r.msg,
      parent: r.parent,
      by: r.by,
      st: r.st,
      text: r.text,
      known,
      siblings: siblings.slice(),
    };
    if (r.pos !== undefined) view.pos = r.pos;
    if (r.eta_ms !== undefined) view.eta_ms = r.eta_ms;
    runs.push(view);
  }
  return {
    ...s,
    live,
    runs: sameItems(runs, s.runs) ? s.runs : runs,
    needRuns: sameItems(needRuns, s.needRuns) ? s.needRuns : needRuns,
  };
}

/** `now` drops those that have expired. Never shows this user as typing to themselves. */
function withTyping(s: Fold, until: ReadonlyMap<string, number>, now?: number): Fold {
  const kept = new Map<string, number>();
  for (const [u, t] of until) if (u !== s.me && (now === undefined || t > now)) kept.set(u, t);
  const typing = [...kept.keys()];
  if (kept.size === s.typingUntil.size && sameItems(typing, s.typing) && until === s.typingUntil) return s;
  return { ...s, typingUntil: kept, typing: sameItems(typing, s.typing) ? s.typing : typing };
}

/* ---- small things -------------------------------------------------------------------------------------------- */

function kindOf(data: unknown): string {
  const t = (data as { t?: unknown } | null | undefined)?.t;
  return typeof t === 'string' ? t : '';
}

function toMessage(
  m: Omit<MsgEvent, 't'> & { t?: string; siblings?: string[]; redacted?: string },
  offset: number,
): Message {
  const { t: _t, siblings: _siblings, ...rest } = m;
  return { ...rest, parent: m.parent ?? null, text: m.text ?? '', status: m.status ?? 'complete', offset };
}

function newestRead(a: Record<string, number>, b: Record<string, number>): Record<string, number> {
  const all = { ...a };
  for (const [u, o] of Object.entries(b)) all[u] = Math.max(all[u] ?? 0, o);
  return all;
}

function union(a: readonly string[], b: readonly string[]): readonly string[] {
  const more = b.filter((x) => !a.includes(x));
  return more.length === 0 ? a : [...a, ...more];
}

function sameItems<T>(a: readonly T[], b: readonly T[]): boolean {
  return a === b || (a.length === b.length && a.every((x, i) => x === b[i]));
}
