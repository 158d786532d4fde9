/**
 * One conversation on one channel: feeds the reducer with what the line brings, and asks for what the reducer misses.
 * Decides nothing about what is shown; that is `fold`.
 */
import { SubscriptionState } from 'centrifuge';
import type { Centrifuge, PublicationContext, SubscribedContext, Subscription, UnsubscribedContext } from 'centrifuge';
import { emptyFold, fold, nextTick } from './reducer.js';
import type { Action, Fold } from './reducer.js';
import { makeCid } from './outbox.js';
import type { Outbox } from './outbox.js';
import { KithError, runAnswer } from './types.js';
import type {
  Conversation,
  ConversationState,
  OpenAnswer,
  Outcome,
  RunAnswer,
  RunSnapshot,
  Snapshot,
} from './types.js';

/** What a conversation needs of its client. */
export interface Host {
  readonly user: string;
  readonly online: boolean;
  readonly outbox: Outbox;
  call<T>(command: string, data: unknown): Promise<T>;
  /** As `call`, again with the same data while the outcome is unknown. */
  callSurely<T>(command: string, data: unknown): Promise<T>;
  onEvent(conv: string, data: unknown, offset: number | undefined, isNew: boolean): void;
  /** My read position moved. */
  onRead(conv: string, offset: number): void;
  left(conv: string): void;
}

const PAGE = 50;
const REOPEN_MAX = 500;
const ASK_MIN_MS = 250;
const ASK_MAX_MS = 8000;
/** A run whose text run.get cannot complete is left to its final message after this many tries. */
const ASKS_MAX = 8;
const RUN_PAGES_MAX = 64;
const TYPING_EVERY_MS = 3000;
const READ_EVERY_MS = 500;

/** A try that failed waits longer each time. */
class Backoff {
  tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Calls `f` later, once; a second call before it replaces the first. */
  later(f: () => void): void {
    clearTimeout(this.timer);
    const ms = Math.min(ASK_MAX_MS, ASK_MIN_MS * 2 ** Math.min(this.tries++, 10));
    this.timer = setTimeout(() => {
      this.timer = undefined;
      f();
    }, ms);
  }
  get waiting(): boolean {
    return this.timer !== undefined;
  }
  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
  reset(): void {
    this.stop();
    this.tries = 0;
  }
}

export class ChannelConversation implements Conversation {
  private current: Fold;
  private told: Fold;
  private readonly listeners = new Set<(s: ConversationState) => void>();
  private sub: Subscription | undefined;
  private line: Centrifuge | undefined;
  private closed = false;
  private held = false;

  private opening = false;
  private openTurn = 0;
  private readonly openAgain = new Backoff();
  private readonly subscribeAgain = new Backoff();
  private readonly asks = new Map<string, { busy: boolean; backoff: Backoff }>();
  private tick: ReturnType<typeof setTimeout> | undefined;
  private tickAt: number | undefined;

  private typingOn = false;
  private typingSent = 0;
  private readWanted = 0;
  private readSent = 0;
  private readTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly id: string,
    private readonly host: Host,
  ) {
    this.current = fold(emptyFold(id, host.user), { kind: 'outgoing', list: host.outbox.list(id) });
    this.told = this.current;
  }

  get state(): ConversationState {
    return this.current;
  }

  subscribe(listener: (s: ConversationState) => void): () => void {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  send(text: string, options?: { during_run?: 'queue' | 'cancel' | 'reject' }): Promise<Outcome | undefined> {
    this.typingOn = false;
    return this.host.outbox.send(this.id, text, options?.during_run);
  }

  retry(cid: string): void {
    this.host.outbox.retry(this.id, cid);
  }
  discard(cid: string): string | undefined {
    return this.host.outbox.discard(this.id, cid);
  }

  stop(run?: string): Promise<Outcome> {
    return this.host.callSurely('run.stop', run === undefined ? { conv: this.id } : { run, conv: this.id });
  }

  regenerate(msg: string, options?: { continue?: boolean }): Promise<Outcome> {
    const request = { conv: this.id, msg, cid: makeCid() };
    return this.host.callSurely(
      'msg.regenerate',
      options?.continue === true ? { ...request, continue: true } : request,
    );
  }

  async loadOlder(limit = PAGE): Promise<void> {
    const before = this.current.next;
    if (before === undefined || !this.current.older || this.current.loadingOlder) return;
    const turn = this.openTurn;
    this.dispatch({ kind: 'loadingOlder', on: true });
    try {
      const answer = await this.host.call<OpenAnswer>('conv.open', { conv: this.id, limit, before });
      // Opened anew meanwhile: this page belongs to what was shown before.
      if (turn === this.openTurn) this.dispatch({ kind: 'older', answer });
    } finally {
      this.dispatch({ kind: 'loadingOlder', on: false });
    }
  }

  setTyping(on: boolean): void {
    const now = Date.now();
    if (on === this.typingOn && (!on || now - this.typingSent < TYPING_EVERY_MS)) return;
    this.typingOn = on;
    this.typingSent = now;
    if (this.host.online) this.host.call('typing.set', { conv: this.id, on }).catch(() => undefined);
  }

  setRead(offset: number): void {
    if (offset <= this.readWanted) return;
    this.readWanted = offset;
    if (this.host.user !== '') this.dispatch({ kind: 'read', user: this.host.user, offset });
    this.host.onRead(this.id, offset);
    if (this.readTimer === undefined) this.sendRead();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.detach();
    this.openAgain.stop();
    this.subscribeAgain.stop();
    for (const ask of this.asks.values()) ask.backoff.stop();
    clearTimeout(this.tick);
    clearTimeout(this.readTimer);
    this.listeners.clear();
    this.host.left(this.id);
  }

  /* ---- called by the client ----------------------------------------------------------------------------------- */

  /** Subscribes the channel on this line; called again when the client made a new one. */
  attach(line: Centrifuge): void {
    if (this.closed || this.current.gone) return;
    this.detach();
    this.line = line;
    const sub = line.newSubscription(`conv:${this.id}`, { recoverable: true, positioned: true });
    this.sub = sub;
    sub.on('subscribed', (ctx) => this.onSubscribed(ctx));
    sub.on('publication', (ctx) => this.onPublication(ctx));
    sub.on('subscribing', () => this.dispatch({ kind: 'unsubscribed' }));
    sub.on('unsubscribed', (ctx) => this.onUnsubscribed(sub, ctx));
    sub.subscribe();
    this.serve();
  }

  setLine(online: boolean): void {
    if (!online) this.typingOn = false;
    if (online) this.openAgain.reset();
    this.dispatch({ kind: 'line', online });
    if (online && this.readWanted > this.readSent) this.sendRead();
  }

  setUser(user: string): void {
    this.dispatch({ kind: 'me', user });
  }
  outboxChanged(): void {
    this.dispatch({ kind: 'outgoing', list: this.host.outbox.list(this.id) });
    this.confirmPassed();
  }
  gone(): void {
    this.dispatch({ kind: 'gone' });
    this.detach();
  }

  /* ---- what the line brings ----------------------------------------------------------------------------------- */

  private onSubscribed(ctx: SubscribedContext): void {
    this.subscribeAgain.reset();
    // Recovered publications follow in this same turn: they and the snapshot are one change to a listener.
    if (ctx.hasRecoveredPublications) {
      this.held = true;
      queueMicrotask(() => {
        this.held = false;
        this.tell();
      });
    }
    const action: Extract<Action, { kind: 'subscribed' }> = {
      kind: 'subscribed',
      recovered: ctx.wasRecovering && ctx.recovered,
      now: Date.now(),
    };
    if (ctx.data !== undefined && ctx.data !== null) action.snapshot = ctx.data as Snapshot;
    if (ctx.streamPosition !== undefined) action.position = ctx.streamPosition;
    for (const ask of this.asks.values()) ask.backoff.reset();
    this.dispatch(action);
  }

  private onPublication(ctx: PublicationContext): void {
    const before = this.current.offset;
    const action: Action = { kind: 'publication', data: ctx.data, now: Date.now() };
    if (ctx.offset !== undefined && ctx.offset > 0) action.offset = ctx.offset;
    const outgoing = this.current.outgoing;
    this.dispatch(action);
    this.host.onEvent(this.id, ctx.data, action.offset, this.current.offset !== before);
    this.confirmMissing(outgoing);
  }

  private onUnsubscribed(sub: Subscription, ctx: UnsubscribedContext): void {
    if (this.closed || this.sub !== sub) return;
    this.dispatch({ kind: 'unsubscribed' });
    const over = ctx.code === 103 || ctx.code === 404 || ctx.code === 102 || (ctx.code >= 2000 && ctx.code < 2500);
    if (over) return this.gone();
    // Some other refusal: the channel may be had later.
    this.subscribeAgain.later(() => {
      if (this.sub === sub && sub.state === SubscriptionState.Unsubscribed) sub.subscribe();
    });
  }

  /** What was on its way before and is in the log now must leave the outbox as well. */
  private confirmMissing(before: readonly { cid: string }[]): void {
    const now = this.current.outgoing;
    if (now.length >= before.length) return;
    for (const { cid } of before)
      if (!now.some((x) => x.cid === cid)) this.host.outbox.confirm(this.id, cid, this.seen(cid));
  }

  private seen(cid: string): Outcome | undefined {
    for (const m of this.current.nodes.values()) {
      if (m.cid !== cid) continue;
      const outcome: Outcome = { status: 'accepted', msg: m.id, offset: m.offset, epoch: this.current.epoch };
      if (m.answer !== undefined) outcome.run = m.answer.run;
      return outcome;
    }
    return undefined;
  }

  /** Accepted messages whose offset has passed are in the log, on the shown path or off it. */
  private confirmPassed(): void {
    if (!this.current.opened) return;
    for (const { cid, offset } of this.host.outbox.accepted(this.id))
      if (offset <= this.current.offset) this.host.outbox.confirm(this.id, cid);
  }

  /* ---- what the reducer asks for ------------------------------------------------------------------------------ */

  private dispatch(action: Action): void {
    const next = fold(this.current, action);
    if (next === this.current || this.closed) return;
    this.current = next;
    if (!this.held) this.tell();
    this.serve();
  }

  private tell(): void {
    const s = this.current;
    if (s === this.told || this.closed) return;
    this.told = s;
    for (const f of [...this.listeners]) {
      try {
        f(s);
      } catch (e) {
        // A listener's mistake must not stop the connection; it is reported as any uncaught error.
        queueMicrotask(() => {
          throw e;
        });
      }
    }
  }

  /** Asks for what is missing, and sets the clock for what will expire. */
  private serve(): void {
    if (this.closed) return;
    const s = this.current;
    if (s.online && s.needOpen && !s.gone && !this.opening && !this.openAgain.waiting) void this.open();
    if (s.online && s.subscribed) for (const run of s.needRuns) this.ask(run);
    const due = nextTick(s);
    if (due !== this.tickAt) {
      clearTimeout(this.tick);
      this.tickAt = due;
      const tick = (): void => {
        this.tickAt = undefined;
        this.dispatch({ kind: 'tick', now: Date.now() });
      };
      if (due !== undefined) this.tick = setTimeout(tick, Math.max(0, due - Date.now()) + 1);
    }
  }

  private async open(): Promise<void> {
    this.opening = true;
    const turn = ++this.openTurn;
    const limit = Math.min(REOPEN_MAX, Math.max(PAGE, this.current.messages.length));
    try {
      const answer = await this.host.call<OpenAnswer>('conv.open', { conv: this.id, limit });
      this.opening = false;
      if (this.closed || turn !== this.openTurn) return;
      const outgoing = this.current.outgoing;
      // Set before the state is: opening anew at once, over and over, must not be possible.
      this.openAgain.later(() => {
        if (!this.current.needOpen) this.openAgain.reset();
        this.serve();
      });
      this.dispatch({ kind: 'opened', answer, now: Date.now() });
      this.confirmMissing(outgoing);
      this.confirmPassed();
    } catch (e) {
      this.opening = false;
      if (this.closed) return;
      if (e instanceof KithError && (e.code === 404 || e.code === 103)) return this.gone();
      this.openAgain.later(() => this.serve());
    }
  }

  /** Asks run.get, once at a time for each run. */
  private ask(run: string): void {
    const ask = this.asks.get(run) ?? { busy: false, backoff: new Backoff() };
    this.asks.set(run, ask);
    if (ask.busy || ask.backoff.waiting || ask.backoff.tries >= ASKS_MAX) return;
    ask.busy = true;
    void this.getRun(run).finally(() => {
      ask.busy = false;
      if (this.closed) return;
      if (!this.current.live.has(run)) {
        this.asks.delete(run);
        return;
      }
      ask.backoff.later(() => {
        if (!this.current.needRuns.includes(run)) ask.backoff.reset();
        this.serve();
      });
    });
  }

  /** Fetches what a run has said; page by page where it is longer than one answer and its beginning is missing. */
  private async getRun(run: string): Promise<void> {
    const fromStart = (this.current.live.get(run)?.base ?? 0) > 0;
    let text = '';
    let whole: RunSnapshot | undefined;
    try {
      for (let page = 0; page < RUN_PAGES_MAX; page++) {
        const request = fromStart ? { run, conv: this.id, p0: text.length } : { run, conv: this.id };
        const answer = runAnswer(await this.host.call<RunAnswer>('run.get', request));
        if ('msg' in answer) return this.dispatch({ kind: 'run', run, answer });
        if (!fromStart || (answer.p0 ?? 0) !== text.length || answer.text === '') {
          whole ??= answer;
          break;
        }
        text += answer.text;
        whole = { ...answer, p0: 0, text };
        if (text.length >= answer.p) break;
      }
      if (whole !== undefined) this.dispatch({ kind: 'run', run, answer: whole });
    } catch (e) {
      if (e instanceof KithError && !e.temporary) this.dispatch({ kind: 'runLost', run });
    }
  }

  private sendRead(): void {
    if (!this.host.online || this.closed || this.readWanted <= this.readSent) return;
    const offset = this.readWanted;
    this.readSent = offset;
    this.host.call('read.set', { conv: this.id, offset }).catch(() => {
      if (this.readSent === offset) this.readSent = 0;
    });
    this.readTimer = setTimeout(() => {
      this.readTimer = undefined;
      this.sendRead();
    }, READ_EVERY_MS);
  }

  private detach(): void {
    const { sub, line } = this;
    this.sub = undefined;
    this.line = undefined;
    if (sub === undefined || line === undefined) return;
    sub.removeAllListeners();
    line.removeSubscription(sub);
  }
}
