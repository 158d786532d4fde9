/**
 * The outbox: messages of mine that the log has not confirmed yet. Each is stored before it is put on the line, goes
 * out one at a time and in order per conversation, always under the same `cid`, until its outcome is known.
 *
 *     send ──> stored ──> [line up, my turn, lock] ──> chat.send
 *                              ^                           ├─ accepted, duplicate ──> forgotten when the log shows it
 *                              ├── outcome unknown ────────┤
 *                              ├── at retry_at ────────────┼─ refused, passing; temporary error
 *                              └── retry(), a new cid ─────┴─ refused for good, misuse: kept, a person decides
 *
 * A lost answer is an unknown outcome: the same `cid` asks again and the server answers with what happened the first
 * time. Tabs that share one store take turns by a Web Lock where the browser has them; the `cid` protects anyway.
 */
import { KithError } from './types.js';
import type { Outcome, Outgoing, OutgoingState, Store } from './types.js';

export type DuringRun = 'queue' | 'cancel' | 'reject';

export interface OutboxDoors {
  store: Store;
  /** Puts one message on the line; throws KithError. */
  send(conv: string, message: { cid: string; text: string; during_run?: DuringRun }): Promise<Outcome>;
  online(): boolean;
  /** UTF-8 bytes a text may have, as the server told. */
  textBytes(): number;
  /** The outgoing messages of a conversation changed. */
  changed(conv: string): void;
  locks?: LockManager;
}

/** What is stored of one message. `verdict` = a person has to decide about it; it is not sent by itself. */
interface Stored {
  conv: string;
  cid: string;
  text: string;
  created: number;
  during_run?: DuringRun;
  verdict?: OutgoingState;
}

interface Item {
  readonly conv: string;
  readonly key: string;
  out: Outgoing;
  tries: number;
  /** The server has it; the log has not shown it yet. */
  accepted?: Outcome;
  /** Is in the store (or was, until another tab dealt with it). */
  stored: Promise<void>;
  waiters: ((outcome: Outcome | undefined) => void)[];
  /** Ends the wait for an answer when the log confirms first. */
  confirmed?: () => void;
  gone: boolean;
}

interface Queue {
  items: Item[];
  busy: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

const PREFIX = 'outbox/';
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 30_000;
/** How long another tab may hold the lock before this one goes on without it. */
const LOCK_MS = 10_000;
/** How long the store may take to say what an earlier page left behind, before newer messages overtake it. */
const LOAD_MS = 1000;

export class Outbox {
  private readonly queues = new Map<string, Queue>();
  private lastCreated = 0;
  private closed = false;
  private loading: Promise<void> = Promise.resolve();

  constructor(private readonly doors: OutboxDoors) {}

  /** What is on its way in a conversation, in order. */
  list(conv: string): Outgoing[] {
    return (this.queues.get(conv)?.items ?? []).map((x) => x.out);
  }

  /** Offset at which the log must show an accepted message, by cid: the conversation confirms when it is past it. */
  accepted(conv: string): { cid: string; offset: number }[] {
    const found: { cid: string; offset: number }[] = [];
    for (const x of this.queues.get(conv)?.items ?? [])
      if (x.accepted !== undefined) found.push({ cid: x.out.cid, offset: x.accepted.offset ?? 0 });
    return found;
  }

  /** Takes a message. Resolves with its outcome; with undefined when it waits for the line or needs a person. */
  send(conv: string, text: string, during_run?: DuringRun): Promise<Outcome | undefined> {
    const created = Math.max(Date.now(), this.lastCreated + 1);
    const item = this.add({ conv, cid: makeCid(), text, created, during_run });
    item.stored = this.save(item);
    const outcome = new Promise<Outcome | undefined>((resolve) => item.waiters.push(resolve));
    if (!this.doors.online()) this.release(item);
    this.doors.changed(conv);
    void this.pump(conv);
    return outcome;
  }

  /** Tries again now. What was refused for good or failed is asked as a new message: its old `cid` is judged. */
  retry(conv: string, cid: string): void {
    const item = this.find(conv, cid);
    if (item === undefined || item.accepted !== undefined) return;
    if (needsPerson(item.out.state)) {
      const { text, during_run } = item.out;
      this.drop(item);
      void this.send(conv, text, during_run);
      return;
    }
    item.tries = 0;
    this.setState(item, this.resting());
    void this.pump(conv);
  }

  /** Removes a message that was not stored. Undefined when there is none, or when it is on the line just now. */
  discard(conv: string, cid: string): string | undefined {
    const item = this.find(conv, cid);
    if (item === undefined || item.out.state.is === 'sending') return undefined;
    this.drop(item);
    this.doors.changed(conv);
    void this.pump(conv);
    return item.out.text;
  }

  /** The log holds this message; `seen` is the outcome as the log tells it. */
  confirm(conv: string, cid: string, seen: Outcome = { status: 'accepted' }): void {
    const item = this.find(conv, cid);
    if (item === undefined) return;
    this.settle(item, item.accepted ?? seen);
    this.drop(item);
    this.doors.changed(conv);
    void this.pump(conv);
  }

  /** The line is up: takes over what other tabs or an earlier page left behind, and goes on. */
  wake(): void {
    for (const queue of this.queues.values())
      for (const x of queue.items)
        if (x.out.state.is === 'waiting') {
          x.tries = 0;
          this.setState(x, { is: 'sending' });
        }
    void this.load().then(() => {
      for (const conv of this.queues.keys()) void this.pump(conv);
    });
  }

  /** The line is down: nothing is being sent. */
  sleep(): void {
    for (const queue of this.queues.values())
      for (const x of queue.items) {
        if (x.accepted === undefined && x.out.state.is === 'sending') this.setState(x, { is: 'waiting' });
        if (x.accepted === undefined) this.release(x);
      }
  }

  /** Reads the store: messages that are not known yet are shown; those that another tab settled are not any more. */
  load(): Promise<void> {
    // A store that does not answer must not hold back what is sent now.
    const patience = new Promise<void>((resolve) => setTimeout(resolve, LOAD_MS));
    this.loading = Promise.race([this.read().catch(() => undefined), patience]);
    return this.loading;
  }

  private async read(): Promise<void> {
    const keys = await this.doors.store.keys(PREFIX);
    const present = new Set(keys);
    const known = new Set<string>();
    for (const queue of this.queues.values()) for (const x of queue.items) known.add(x.key);
    const changed = new Set<string>();
    for (const key of keys) {
      if (known.has(key)) continue;
      const found = await this.doors.store.get<Stored>(key);
      if (found === undefined || this.find(found.conv, found.cid) !== undefined || this.closed) continue;
      const item = this.add(found);
      if (item.key !== key) continue;
      item.out = { ...item.out, state: found.verdict ?? this.resting() };
      changed.add(found.conv);
    }
    for (const [conv, queue] of this.queues)
      for (const x of queue.items.slice())
        if (
          known.has(x.key) &&
          !present.has(x.key) &&
          x.accepted === undefined &&
          !queue.busy &&
          x.out.state.is !== 'sending' &&
          !this.unsaved.has(x.key)
        ) {
          this.drop(x);
          changed.add(conv);
        }
    for (const conv of changed) this.doors.changed(conv);
  }

  /** Stops; what is stored stays for the next time. */
  close(): void {
    this.closed = true;
    for (const queue of this.queues.values()) {
      clearTimeout(queue.timer);
      for (const x of queue.items) this.release(x);
    }
  }

  /* ---- one at a time ------------------------------------------------------------------------------------------ */

  private async pump(conv: string): Promise<void> {
    const queue = this.queues.get(conv);
    if (queue === undefined || queue.busy) return;
    queue.busy = true;
    try {
      await this.loading;
      for (;;) {
        clearTimeout(queue.timer);
        const item = queue.items.find((x) => x.accepted === undefined && !needsPerson(x.out.state));
        if (item === undefined || this.closed || !this.doors.online()) return;
        const wait = (item.out.state.is === 'refused' ? (item.out.state.retry_at ?? 0) : 0) - Date.now();
        if (wait > 0) {
          queue.timer = setTimeout(() => void this.pump(conv), wait);
          return;
        }
        if (item.out.state.is !== 'sending') this.setState(item, { is: 'sending' });
        await item.stored;
        const pause = await this.locked(conv, () => this.sendOne(item));
        if (pause > 0) {
          queue.timer = setTimeout(() => void this.pump(conv), pause);
          return;
        }
      }
    } finally {
      queue.busy = false;
    }
  }

  /** Sends the head of the queue. Returns the milliseconds to pause before the queue goes on. */
  private async sendOne(item: Item): Promise<number> {
    if (item.gone) return 0;
    if (!this.doors.online()) {
      this.setState(item, { is: 'waiting' });
      this.release(item);
      return 0;
    }
    if (await this.takenElsewhere(item)) {
      this.drop(item);
      this.doors.changed(item.conv);
      return 0;
    }
    const { cid, text, during_run } = item.out;
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > this.doors.textBytes()) {
      const message = `The text has ${bytes} bytes, ${this.doors.textBytes()} are allowed.`;
      await this.refused(item, { status: 'refused', reason: { code: 'too_long', message } });
      return 0;
    }
    const confirmed = new Promise<'confirmed'>((resolve) => {
      item.confirmed = () => resolve('confirmed');
    });
    try {
      const message = during_run === undefined ? { cid, text } : { cid, text, during_run };
      const sent = this.doors.send(item.conv, message);
      sent.catch(() => undefined);
      const outcome = await Promise.race([sent, confirmed]);
      if (outcome === 'confirmed' || item.gone) return 0;
      if (outcome.status === 'refused') {
        await this.refused(item, outcome);
        return 0;
      }
      item.accepted = outcome;
      await this.forget(item);
      this.settle(item, outcome);
      this.doors.changed(item.conv);
      return 0;
    } catch (e) {
      return item.gone ? 0 : this.failed(item, e);
    } finally {
      item.confirmed = undefined;
    }
  }

  private async refused(item: Item, outcome: Outcome): Promise<void> {
    const { code, message, retry_ms } = outcome.reason ?? {
      code: 'refused',
      message: 'The server refused this message.',
    };
    const final = FINAL.has(code) || (retry_ms === undefined && !PASSING.has(code));
    // Who asked not to wait for a running answer decides, not the clock.
    const decide = final || (code === 'busy' && item.out.during_run === 'reject');
    const state: OutgoingState = { is: 'refused', code, message, final };
    if (!decide) state.retry_at = Date.now() + this.delay(item, retry_ms);
    this.setState(item, state);
    if (decide) await this.save(item, state);
    this.settle(item, outcome);
  }

  private async failed(item: Item, e: unknown): Promise<number> {
    const error = e instanceof KithError ? e : new KithError(0, String(e), true);
    if (!error.temporary) {
      const state: OutgoingState = { is: 'failed', code: error.code, message: error.message };
      this.setState(item, state);
      await this.save(item, state);
      this.release(item);
      return 0;
    }
    if (error.code < 100) {
      // No answer: it may be stored or not. The same cid will tell.
      if (!this.doors.online()) {
        this.setState(item, { is: 'waiting' });
        this.release(item);
      }
      return this.delay(item);
    }
    const code = error.code === 503 ? 'unavailable' : error.code === 111 ? 'rate_limited' : `error_${error.code}`;
    const retry_at = Date.now() + this.delay(item);
    this.setState(item, { is: 'refused', code, message: error.message, final: false, retry_at });
    this.release(item);
    return 0;
  }

  /** What the server asked for; without that, or when it refuses again, growing with each try. Never the same in all. */
  private delay(item: Item, asked?: number): number {
    const tries = item.tries++;
    const grown = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(tries, 10));
    if (asked !== undefined) return Math.max(asked, tries === 0 ? 0 : grown) * (1 + Math.random() / 10);
    return grown * (0.5 + Math.random() / 2);
  }

  /** With one store and several tabs, only one sends from a conversation's outbox at a time. */
  private async locked<T>(conv: string, work: () => Promise<T>): Promise<T> {
    const locks = this.doors.locks;
    if (locks === undefined) return work();
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), LOCK_MS);
    let begun = false;
    try {
      return await locks.request(`kith/${PREFIX}${conv}`, { signal: patience.signal }, () => {
        begun = true;
        clearTimeout(timer);
        return work();
      });
    } catch (e) {
      // A tab that is frozen while it holds the lock must not silence this one: the cid protects.
      if (begun) throw e;
      return work();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Another tab sent or discarded it: its entry is gone. A store that fails says nothing. */
  private async takenElsewhere(item: Item): Promise<boolean> {
    try {
      return (await this.doors.store.get(item.key)) === undefined && !this.unsaved.has(item.key);
    } catch {
      return false;
    }
  }

  /* ---- items -------------------------------------------------------------------------------------------------- */

  /** Keys that the store did not take: their messages live in memory only. */
  private readonly unsaved = new Set<string>();

  private add(m: Stored): Item {
    this.lastCreated = Math.max(this.lastCreated, m.created);
    const out: Outgoing = { cid: m.cid, text: m.text, created: m.created, state: this.resting() };
    if (m.during_run !== undefined) out.during_run = m.during_run;
    const key = `${PREFIX}${m.conv}/${String(m.created).padStart(15, '0')}-${m.cid}`;
    const item: Item = { conv: m.conv, key, out, tries: 0, stored: Promise.resolve(), waiters: [], gone: false };
    const queue = this.queues.get(m.conv) ?? { items: [], busy: false };
    this.queues.set(m.conv, queue);
    queue.items.push(item);
    queue.items.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    return item;
  }

  private find(conv: string, cid: string): Item | undefined {
    return this.queues.get(conv)?.items.find((x) => x.out.cid === cid);
  }

  private async save(item: Item, verdict?: OutgoingState): Promise<void> {
    const { cid, text, created, during_run } = item.out;
    const record: Stored = { conv: item.conv, cid, text, created };
    if (during_run !== undefined) record.during_run = during_run;
    if (verdict !== undefined) record.verdict = verdict;
    try {
      await this.doors.store.set(item.key, record);
      if (item.gone) await this.doors.store.delete(item.key);
    } catch {
      this.unsaved.add(item.key);
    }
  }

  private async forget(item: Item): Promise<void> {
    this.unsaved.delete(item.key);
    try {
      await item.stored;
      await this.doors.store.delete(item.key);
    } catch {
      // It is sent again after a reload, and answered as a duplicate.
    }
  }

  private drop(item: Item): void {
    item.gone = true;
    item.confirmed?.();
    const queue = this.queues.get(item.conv);
    if (queue !== undefined) queue.items = queue.items.filter((x) => x !== item);
    void this.forget(item);
    this.release(item);
  }

  private setState(item: Item, state: OutgoingState): void {
    item.out = { ...item.out, state };
    this.doors.changed(item.conv);
  }

  private resting(): OutgoingState {
    return this.doors.online() ? { is: 'sending' } : { is: 'waiting' };
  }

  private settle(item: Item, outcome: Outcome): void {
    for (const f of item.waiters.splice(0)) f(outcome);
  }

  private release(item: Item): void {
    for (const f of item.waiters.splice(0)) f(undefined);
  }
}

const FINAL = new Set(['blocked', 'age_required', 'region_restricted', 'too_long', 'closed']);
const PASSING = new Set(['rate_limited', 'quota_exceeded', 'credit_needed', 'busy', 'overloaded', 'human_mode']);

function needsPerson(s: OutgoingState): boolean {
  return s.is === 'failed' || (s.is === 'refused' && s.retry_at === undefined);
}

/** A client's own id: 128 random bits, 22 characters of `A-Z a-z 0-9 _ -`. */
export function makeCid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}
