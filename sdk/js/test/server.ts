/**
 * A small server that speaks the Centrifuge protocol (JSON over WebSocket) and kith's commands, for tests only. What it
 * keeps are `ModelConversation`s; what it does wrong is said by `fault`.
 */
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';
import type { WebSocket } from 'ws';
import type { ConversationSummary, DeltaEvent, Outcome } from '../src/types.js';
import { ModelConversation } from './model.js';
import type { Stored } from './model.js';

type Json = Record<string, any>;

/** What happens to one command. `drop-before`: the socket dies unheard; `drop-after`: done, but the socket dies before
 *  the answer; `silent`: done, never answered; `late`: answered when `release()` is called. */
export type Fault =
  | 'drop-before'
  | 'drop-after'
  | 'silent'
  | 'late'
  | { error: { code: number; message: string; temporary?: boolean } }
  | { refuse: NonNullable<Outcome['reason']> };

interface Connection {
  socket: WebSocket;
  user: string;
  channels: Set<string>;
  client: string;
}

export class TestServer {
  readonly conversations = new Map<string, ModelConversation>();
  readonly connections = new Set<Connection>();
  /** Commands in the order in which they were read. */
  readonly heard: { method: string; data: Json; user: string }[] = [];
  /** Tokens that connects came with. */
  readonly tokens: string[] = [];
  fault: (method: string, data: Json) => Fault | undefined = () => undefined;
  /** What becomes of a delta on its way: none, one or more. */
  mangle: (d: DeltaEvent) => DeltaEvent[] = (d) => [d];
  /** Answers of the model come from the test, or by themselves from this. */
  onSaid: (conv: ModelConversation, run: string) => void = () => undefined;
  refuseConnect: { code: number; reason: string } | undefined;
  connectError: { code: number; message: string } | undefined;
  recoverable = true;
  /** run.get gives a final message without `msg` around it. */
  bareFinal = false;
  /** Events are held back until `release()`: answers to commands overtake them. */
  holdEvents = false;
  validTokens = new Set<string>();
  readonly owners = new Map<string, string>();
  private readonly cids = new Map<string, { text: string; outcome: Outcome }>();
  private readonly created = new Map<string, string>();
  private readonly inbox = new Map<string, Json[]>();
  inboxEpoch = 'i1';
  private held: (() => void)[] = [];
  private ids = 0;
  private guests = 0;
  private server!: WebSocketServer;
  url = '';

  async start(port = 0): Promise<this> {
    this.server = new WebSocketServer({ host: '127.0.0.1', port, path: '/connection/websocket' });
    await new Promise((resolve, reject) => {
      this.server.once('listening', resolve);
      this.server.once('error', reject);
    });
    this.url = `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}/connection/websocket`;
    this.server.on('connection', (socket) => this.accept(socket));
    return this;
  }

  /** Stops to listen and kills every socket, as a process that dies. */
  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  /** Kills all sockets without a word. */
  cut(): void {
    for (const c of this.connections) c.socket.terminate();
    this.connections.clear();
  }
  close(code: number, reason: string): void {
    for (const c of this.connections) c.socket.close(code, reason);
    this.connections.clear();
  }
  release(): void {
    for (const f of this.held.splice(0)) f();
  }

  /* the world as the test moves it */

  make(id: string, owner: string): ModelConversation {
    const conv = new ModelConversation(id, owner);
    this.conversations.set(id, conv);
    this.owners.set(id, owner);
    return conv;
  }

  publish(conv: ModelConversation, ...events: Stored[]): void {
    const tell = (): void => {
      for (const { offset, event } of events) this.push(`conv:${conv.id}`, { data: event, offset });
      this.tellInbox(conv.owner, { t: 'conv', conv: this.summary(conv) });
    };
    if (this.holdEvents) this.held.push(tell);
    else tell();
  }
  ephemeral(conv: ModelConversation, data: unknown): void {
    this.push(`conv:${conv.id}`, { data });
  }
  write(conv: ModelConversation, run: string, text: string): void {
    for (const d of this.mangle(conv.write(run, text))) this.ephemeral(conv, d);
  }
  end(conv: ModelConversation, run: string, status?: 'complete' | 'stopped' | 'failed', why?: string): void {
    this.publish(conv, conv.end(run, status, why));
    this.tellInbox(conv.owner, { t: 'run', conv: conv.id, run, on: false });
  }
  tellInbox(user: string, data: Json): void {
    const ring = this.inbox.get(user) ?? [];
    ring.push(data);
    this.inbox.set(user, ring);
    this.push(`#${user}`, { data, offset: ring.length });
  }

  summary(conv: ModelConversation): ConversationSummary {
    const last = conv.path().pop();
    return {
      id: conv.id,
      title: conv.title,
      head: conv.top,
      unread: 0,
      mode: 'ai',
      updated: conv.top,
      ...(last === undefined ? {} : { last: last.text }),
    };
  }

  private push(channel: string, pub: Json): void {
    for (const c of this.connections)
      if (c.channels.has(channel)) c.socket.send(JSON.stringify({ push: { channel, pub } }));
  }

  /* the protocol */

  private accept(socket: WebSocket): void {
    const c: Connection = { socket, user: '', channels: new Set(), client: `client${++this.ids}` };
    this.connections.add(c);
    socket.on('close', () => this.connections.delete(c));
    socket.on('error', () => undefined);
    socket.on('message', (raw) => {
      for (const line of String(raw).split('\n'))
        if (line !== '' && socket.readyState === socket.OPEN) this.command(c, JSON.parse(line));
    });
  }

  private reply(c: Connection, message: Json): void {
    c.socket.send(JSON.stringify(message));
  }

  private command(c: Connection, m: Json): void {
    if (m.connect !== undefined) this.connect(c, m);
    else if (m.subscribe !== undefined) this.subscribe(c, m);
    else if (m.unsubscribe !== undefined) {
      c.channels.delete(m.unsubscribe.channel);
      this.reply(c, { id: m.id, unsubscribe: {} });
    } else if (m.rpc !== undefined) this.rpc(c, m);
  }

  private connect(c: Connection, m: Json): void {
    const token: string = m.connect.token ?? '';
    this.tokens.push(token);
    if (this.refuseConnect !== undefined) return c.socket.close(this.refuseConnect.code, this.refuseConnect.reason);
    if (this.connectError !== undefined) return this.reply(c, { id: m.id, error: this.connectError });
    let made: string | undefined;
    if (token === '') {
      made = `token-u_${++this.guests}`;
      this.validTokens.add(made);
      c.user = `u_${this.guests}`;
    } else if (this.validTokens.has(token)) c.user = token.slice('token-'.length);
    else return c.socket.close(3500, 'invalid token');
    const kith: Json = {
      protocol: 1,
      version: '0.1.0',
      user: c.user,
      name: 'Guest',
      guest: true,
      limits: { text_bytes: 1000, parts: 16, file_bytes: 1 },
    };
    if (made !== undefined) kith.token = made;
    const channel = `#${c.user}`;
    const ring = this.inbox.get(c.user) ?? [];
    const asked = m.connect.subs?.[channel];
    const recovered = asked?.recover === true && asked.epoch === this.inboxEpoch && (asked.offset ?? 0) <= ring.length;
    const sub: Json = {
      recoverable: true,
      positioned: true,
      epoch: this.inboxEpoch,
      offset: recovered ? (asked.offset ?? 0) : ring.length,
    };
    if (asked !== undefined) sub.was_recovering = true;
    if (recovered) {
      sub.recovered = true;
      sub.publications = ring
        .slice(asked.offset ?? 0)
        .map((data, i) => ({ data, offset: (asked.offset ?? 0) + i + 1 }));
    }
    c.channels.add(channel);
    this.reply(c, {
      id: m.id,
      connect: { client: c.client, version: 'test', ping: 25, pong: true, data: { kith }, subs: { [channel]: sub } },
    });
  }

  private subscribe(c: Connection, m: Json): void {
    const { channel, recover, offset = 0, epoch } = m.subscribe;
    const conv = this.conversations.get(String(channel).replace(/^conv:/, ''));
    if (conv === undefined || conv.owner !== c.user)
      return this.reply(c, { id: m.id, error: { code: 103, message: 'permission denied' } });
    const recovered = recover === true && this.recoverable && epoch === conv.epoch && offset <= conv.top;
    const result: Json = {
      recoverable: true,
      positioned: true,
      epoch: conv.epoch,
      offset: recovered ? offset : conv.top,
      data: conv.snapshot(),
    };
    if (recover === true) result.was_recovering = true;
    if (recovered) {
      result.recovered = true;
      result.publications = conv.since(offset).map(({ offset: o, event }) => ({ data: event, offset: o }));
    }
    c.channels.add(channel);
    this.reply(c, { id: m.id, subscribe: result });
  }

  private rpc(c: Connection, m: Json): void {
    const { method, data } = m.rpc as { method: string; data: Json };
    this.heard.push({ method, data, user: c.user });
    const fault = this.fault(method, data);
    if (fault === 'drop-before') {
      c.socket.terminate();
      return;
    }
    if (typeof fault === 'object' && 'error' in fault) return this.reply(c, { id: m.id, error: fault.error });
    if (typeof fault === 'object')
      return this.reply(c, { id: m.id, rpc: { data: { status: 'refused', reason: fault.refuse } } });
    const answer = this.answer(c, method, data ?? {});
    if (fault === 'drop-after') {
      c.socket.terminate();
      return;
    }
    if (fault === 'silent') return;
    const send = (): void =>
      this.reply(
        c,
        answer.error === undefined ? { id: m.id, rpc: { data: answer.data } } : { id: m.id, error: answer.error },
      );
    if (fault === 'late') this.held.push(send);
    else send();
  }

  private answer(c: Connection, method: string, q: Json): { data?: unknown; error?: Json } {
    if (method === 'conv.list') {
      const mine = [...this.conversations.values()]
        .filter((x) => x.owner === c.user)
        .map((x) => this.summary(x))
        .sort((a, b) => b.updated - a.updated);
      const from = q.before ?? 0;
      const items = mine.slice(from, from + (q.limit ?? 50));
      return { data: from + items.length < mine.length ? { items, next: from + items.length } : { items } };
    }
    if (method === 'conv.create') {
      const known = this.created.get(`${c.user}/${q.cid}`);
      const conv = known === undefined ? this.make(`c_${++this.ids}`, c.user) : this.conversations.get(known)!;
      if (known === undefined) {
        this.created.set(`${c.user}/${q.cid}`, conv.id);
        conv.title = q.title ?? '';
        this.tellInbox(c.user, { t: 'conv', conv: this.summary(conv) });
      }
      return { data: { conv: conv.open().conv } };
    }
    if (method === 'no.such') return { error: { code: 104, message: 'method not found' } };
    const conv = this.conversations.get(q.conv);
    if (conv === undefined || conv.owner !== c.user) return { error: { code: 404, message: 'not found' } };
    switch (method) {
      case 'conv.open':
        return { data: conv.open(q.limit, q.before) };
      case 'conv.update':
        this.publish(conv, conv.state('title', q.title));
        return { data: { conv: conv.open().conv } };
      case 'conv.delete':
        this.conversations.delete(conv.id);
        this.tellInbox(c.user, { t: 'conv.gone', conv: conv.id });
        return { data: {} };
      case 'chat.send':
        return { data: this.send(conv, c.user, q) };
      case 'msg.regenerate': {
        const events = conv.regenerate(q.msg);
        this.publish(conv, ...events);
        const run = [...conv.runs.keys()].pop()!;
        this.onSaid(conv, run);
        return { data: { status: 'accepted', run, offset: conv.top, epoch: conv.epoch } };
      }
      case 'run.stop':
        for (const run of [...conv.runs.keys()])
          if (q.run === undefined || q.run === run) this.end(conv, run, 'stopped', 'user');
        return { data: { status: 'accepted' } };
      case 'run.get': {
        const found = conv.get(q.run);
        if (found === undefined) return { error: { code: 404, message: 'not found' } };
        return { data: 'msg' in found && this.bareFinal ? found.msg : found };
      }
      case 'read.set':
        conv.read[c.user] = q.offset;
        this.ephemeral(conv, { t: 'read', u: c.user, o: q.offset });
        return { data: {} };
      case 'typing.set':
        this.ephemeral(conv, { t: 'typing', u: c.user, on: q.on });
        return { data: {} };
      default:
        return { error: { code: 104, message: 'method not found' } };
    }
  }

  private send(conv: ModelConversation, user: string, q: Json): Outcome {
    const key = `${conv.id}/${user}/${q.cid}`;
    const known = this.cids.get(key);
    if (known !== undefined) return { ...known.outcome, status: 'duplicate' };
    const stored = conv.say(user, q.text, q.cid);
    const event = stored.event as { id: string; answer?: { run: string } };
    const outcome: Outcome = { status: 'accepted', msg: event.id, offset: stored.offset, epoch: conv.epoch };
    if (event.answer !== undefined) outcome.run = event.answer.run;
    this.cids.set(key, { text: q.text, outcome });
    this.publish(conv, stored);
    if (event.answer !== undefined) {
      this.tellInbox(user, { t: 'run', conv: conv.id, run: event.answer.run, on: true });
      this.onSaid(conv, event.answer.run);
    }
    return outcome;
  }
}

/** Resolves when `check` holds; asks again with each turn of the event loop. Rejects after `ms`. */
export async function until(check: () => unknown, what = 'what was waited for', ms = 5000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await check())) {
    if (performance.now() > end) throw new Error(`${what} did not happen within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Web Locks as the tabs of one browser share them. */
export function makeLocks(): LockManager {
  const tails = new Map<string, Promise<unknown>>();
  return {
    request(name: string, options: { signal?: AbortSignal }, work: () => Promise<unknown>) {
      const before = tails.get(name) ?? Promise.resolve();
      const turn = before.then(() => {
        options.signal?.throwIfAborted();
        return work();
      });
      tails.set(
        name,
        turn.catch(() => undefined),
      );
      return turn;
    },
  } as unknown as LockManager;
}
