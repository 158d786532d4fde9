/** Every fault the line, the server and the browser have in store for a message, and the message is there once. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { Client } from '../src/client.js';
import type { ClientOptions } from '../src/client.js';
import { MemoryStore } from '../src/store.js';
import { makeCid } from '../src/outbox.js';
import type { Conversation } from '../src/types.js';
import { makeRandom } from './model.js';
import type { ModelConversation } from './model.js';
import { makeLocks, TestServer, until } from './server.js';

let server: TestServer;
let store: MemoryStore;
let conv: ModelConversation;
let clients: Client[] = [];

/** A tab: a client on the shared store, looking at the one conversation. */
function tab(options: ClientOptions = {}): { client: Client; chat: Conversation } {
  const client = new Client({
    url: server.url,
    websocket: WebSocket,
    store,
    token: 'token-u_1',
    reconnect_ms: { min: 2, max: 10 },
    command_ms: 150,
    ...options,
  });
  clients.push(client);
  client.connect();
  return { client, chat: client.conversation('c_1') };
}
async function live(options: ClientOptions = {}): Promise<{ client: Client; chat: Conversation }> {
  const t = tab(options);
  await until(() => t.chat.state.phase === 'live', 'live');
  return t;
}
const stored = (): string[] =>
  conv
    .said()
    .filter((m) => m.by.kind === 'user')
    .map((m) => m.text);
const sends = (): { cid: string; text: string; during_run?: string }[] =>
  server.heard.filter((x) => x.method === 'chat.send').map((x) => x.data as never);
const kept = (): Promise<string[]> => store.keys('outbox/');

/** Makes every call of the store take a while, as a disk may. */
function slow(
  s: MemoryStore,
  ms: number,
  names: ('get' | 'set' | 'delete' | 'keys')[] = ['get', 'set', 'delete', 'keys'],
): void {
  const wait = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  for (const name of names) {
    const own = s[name].bind(s) as (...a: unknown[]) => Promise<never>;
    (s as unknown as Record<string, unknown>)[name] = async (...a: unknown[]) => {
      await wait();
      return own(...a);
    };
  }
}

beforeEach(async () => {
  server = await new TestServer().start();
  server.validTokens.add('token-u_1');
  conv = server.make('c_1', 'u_1');
  store = new MemoryStore();
});
afterEach(async () => {
  for (const c of clients) c.close();
  clients = [];
  await server.stop();
});

describe('one message', () => {
  it('is stored before it is on the line, and forgotten when it is accepted', async () => {
    slow(store, 20, ['set']);
    const { chat } = await live();
    let inStore: unknown;
    server.fault = (method) => {
      if (method === 'chat.send') inStore = kept();
      return undefined;
    };
    const sent = chat.send('hello');
    expect(chat.state.outgoing).toMatchObject([{ text: 'hello', state: { is: 'sending' } }]);
    expect(await sent).toMatchObject({ status: 'accepted', msg: 'm_0001', offset: 1 });
    expect(await inStore).toHaveLength(1);
    await until(() => chat.state.messages.length === 1 && chat.state.outgoing.length === 0);
    expect(await kept()).toEqual([]);
    expect(sends()[0]!.cid).toMatch(/^[A-Za-z0-9_-]{22}$/);
  });
  it.each(['drop-after', 'drop-before', 'silent'] as const)(
    '%s: is sent again under the same cid, and there once',
    async (fault) => {
      const { chat } = await live();
      let faults = 2;
      server.fault = (method) => (method === 'chat.send' && faults-- > 0 ? fault : undefined);
      void chat.send('once');
      await until(() => chat.state.messages.length === 1 && chat.state.outgoing.length === 0);
      expect(stored()).toEqual(['once']);
      expect(new Set(sends().map((x) => x.cid)).size).toBe(1);
      await until(async () => (await kept()).length === 0);
    },
  );
  it('the log may confirm it before the answer does', async () => {
    const { chat } = await live({ command_ms: 10_000 });
    server.fault = (method) => (method === 'chat.send' ? 'late' : undefined);
    const first = chat.send('one');
    const second = chat.send('two');
    await until(() => chat.state.outgoing.length === 0, 'nobody waits for the answers', 2000);
    expect(await first).toMatchObject({ status: 'accepted', msg: 'm_0001', run: 'r_0002', offset: 1 });
    expect(await second).toMatchObject({ status: 'accepted', offset: 2 });
    server.release();
  });
  it('is shown until the log shows it, and is not sent again meanwhile', async () => {
    const { client, chat } = await live();
    server.holdEvents = true;
    await chat.send('one');
    expect(await chat.send('two')).toMatchObject({ status: 'accepted', offset: 2 });
    expect(chat.state.outgoing).toMatchObject([
      { text: 'one', state: { is: 'sending' } },
      { text: 'two', state: { is: 'sending' } },
    ]);
    expect(chat.state.messages).toEqual([]);
    expect(chat.discard(chat.state.outgoing[0]!.cid)).toBeUndefined();
    expect(await kept()).toEqual([]);
    server.cut();
    await until(() => client.line.is === 'offline');
    await until(() => chat.state.outgoing.length === 0 && chat.state.messages.length === 2);
    expect(sends()).toHaveLength(2);
  });
  it('that the log shows on another branch, or further up, is not shown as on its way for ever', async () => {
    server.fault = (method) => (method === 'conv.open' ? 'silent' : undefined);
    const { chat } = tab();
    await until(() => server.heard.some((x) => x.method === 'conv.open'));
    await chat.send('far up');
    for (let i = 0; i < 60; i++) conv.say('u_2', `t${i}`, undefined, undefined, false);
    server.fault = () => undefined;
    await until(() => chat.state.phase === 'live' && chat.state.messages.length === 50);
    await until(() => chat.state.outgoing.length === 0);
    expect(await kept()).toEqual([]);
  });
  it('waits while the line is down, and goes by itself', async () => {
    const { client, chat } = await live();
    const { port } = server;
    await server.stop();
    await until(() => client.line.is === 'offline');
    expect(await chat.send('later')).toBeUndefined();
    expect(chat.state.outgoing).toMatchObject([{ text: 'later', state: { is: 'waiting' } }]);
    expect(await kept()).toHaveLength(1);
    await server.start(port);
    await until(() => chat.state.messages.length === 1 && chat.state.outgoing.length === 0);
    expect(stored()).toEqual(['later']);
  });
  it('survives a reload, in a conversation that is not even opened', async () => {
    const { client, chat } = await live();
    server.fault = (method) => (method === 'chat.send' ? 'drop-after' : undefined);
    void chat.send('before the reload');
    await until(() => sends().length === 1);
    client.close();
    server.fault = () => undefined;
    const next = new Client({ url: server.url, websocket: WebSocket, store, token: 'token-u_1' });
    clients.push(next);
    next.connect();
    await until(async () => (await kept()).length === 0);
    expect(stored()).toEqual(['before the reload']);
    expect(new Set(sends().map((x) => x.cid)).size).toBe(1);
  });
  it('that is larger than allowed never goes on the line', async () => {
    const { chat } = await live();
    const outcome = await chat.send('é'.repeat(501));
    expect(outcome).toMatchObject({ status: 'refused', reason: { code: 'too_long' } });
    expect(chat.state.outgoing).toMatchObject([{ state: { is: 'refused', code: 'too_long', final: true } }]);
    expect(sends()).toEqual([]);
    expect(await chat.send('é'.repeat(500))).toMatchObject({ status: 'accepted' });
  });
});

describe('the order', () => {
  it('of what an earlier page left behind is before what is said now, also with a slow store', async () => {
    const { client, chat } = await live();
    await server.stop();
    await until(() => client.line.is === 'offline');
    void chat.send('old 1');
    void chat.send('old 2');
    await until(async () => (await kept()).length === 2);
    client.close();
    slow(store, 30);
    await server.start();
    const next = tab();
    let said: unknown;
    next.client.onLine((l) => {
      if (l.is === 'online') said = next.chat.send('new');
    });
    await until(() => stored().length === 3);
    expect(stored()).toEqual(['old 1', 'old 2', 'new']);
    await said;
    await until(async () => (await kept()).length === 0);
  });
  it('is kept, one at a time, through every fault', async () => {
    const random = makeRandom(3);
    const { chat } = await live();
    const faults = [
      'drop-after',
      'drop-before',
      'silent',
      { error: { code: 503, message: 'away', temporary: true } },
    ] as const;
    let left = 12;
    server.fault = (method) =>
      method === 'chat.send' && left > 0 && random.below(2) === 0 ? (left--, random.pick(faults)) : undefined;
    const texts = Array.from({ length: 8 }, (_, i) => `t${i}`);
    for (const t of texts) void chat.send(t);
    await until(() => stored().length === 8, 'all sent', 15_000);
    await until(() => chat.state.outgoing.length === 0);
    expect(stored()).toEqual(texts);
    // While the first has no outcome, the second is not tried.
    const order = sends().map((x) => x.text);
    expect(order).toEqual(order.slice().sort());
  });
  it('of what was written offline is the order in which it is sent', async () => {
    const { client, chat } = await live();
    server.cut();
    await until(() => client.line.is === 'offline');
    for (let i = 0; i < 5; i++) void chat.send(`t${i}`);
    await until(() => stored().length === 5);
    expect(stored()).toEqual(['t0', 't1', 't2', 't3', 't4']);
  });
});

describe('a refusal', () => {
  it('that passes is tried again when it has passed, and holds back what comes after', async () => {
    const { chat } = await live();
    let refusals = 1;
    server.fault = (method) =>
      method === 'chat.send' && refusals-- > 0
        ? { refuse: { code: 'rate_limited', message: 'slower', retry_ms: 30 } }
        : undefined;
    const first = await chat.send('one');
    expect(first).toMatchObject({ status: 'refused', reason: { code: 'rate_limited' } });
    const state = chat.state.outgoing[0]!.state;
    expect(state).toMatchObject({ is: 'refused', code: 'rate_limited', message: 'slower', final: false });
    if (state.is === 'refused') expect(state.retry_at! - Date.now()).toBeGreaterThan(0);
    void chat.send('two');
    await until(() => stored().length === 2);
    expect(stored()).toEqual(['one', 'two']);
    expect(
      new Set(
        sends()
          .filter((x) => x.text === 'one')
          .map((x) => x.cid),
      ).size,
    ).toBe(1);
  });
  it('retry() does not wait for it', async () => {
    const { chat } = await live();
    let refusals = 1;
    server.fault = (method) =>
      method === 'chat.send' && refusals-- > 0
        ? { refuse: { code: 'quota_exceeded', message: 'tomorrow', retry_ms: 86_400_000 } }
        : undefined;
    await chat.send('one');
    chat.retry(chat.state.outgoing[0]!.cid);
    await until(() => stored().length === 1);
  });
  it('for good is kept with its text, does not hold back others, and survives a reload', async () => {
    const { client, chat } = await live();
    server.fault = (_m, data) =>
      data?.text === 'bad' ? { refuse: { code: 'blocked', message: 'no', category: 'x' } } : undefined;
    await chat.send('bad');
    expect(await chat.send('good')).toMatchObject({ status: 'accepted' });
    expect(chat.state.outgoing).toMatchObject([
      { text: 'bad', state: { is: 'refused', code: 'blocked', final: true } },
    ]);
    client.close();
    const { chat: again } = await live();
    await until(() => again.state.outgoing.length === 1);
    expect(again.state.outgoing[0]!.state).toMatchObject({ is: 'refused', code: 'blocked', final: true });
    expect(sends().map((x) => x.text)).toEqual(['bad', 'good']);
    expect(again.discard(again.state.outgoing[0]!.cid)).toBe('bad');
    expect(again.state.outgoing).toEqual([]);
    await until(async () => (await kept()).length === 0);
  });
  it('for good is asked anew under another cid', async () => {
    const { chat } = await live();
    server.fault = (_m, data) => (data?.text === 'bad' ? { refuse: { code: 'blocked', message: 'no' } } : undefined);
    await chat.send('bad');
    const old = chat.state.outgoing[0]!.cid;
    server.fault = () => undefined;
    chat.retry(old);
    await until(() => stored().length === 1 && chat.state.outgoing.length === 0);
    expect(sends()[1]!.cid).not.toBe(old);
    expect(await kept()).toEqual([]);
  });
  it('busy, for who did not want to wait: a person decides', async () => {
    const { chat } = await live();
    server.fault = (method) =>
      method === 'chat.send' ? { refuse: { code: 'busy', message: 'busy', retry_ms: 1 } } : undefined;
    await chat.send('now or never', { during_run: 'reject' });
    expect(sends()[0]).toMatchObject({ during_run: 'reject' });
    const { state } = chat.state.outgoing[0]!;
    expect(state).toMatchObject({ is: 'refused', code: 'busy', final: false });
    expect(state).not.toHaveProperty('retry_at');
  });
  it('as a temporary error has a countdown too', async () => {
    const { chat } = await live();
    let errors = 1;
    server.fault = (method) =>
      method === 'chat.send' && errors-- > 0
        ? { error: { code: 503, message: 'the store is away', temporary: true } }
        : undefined;
    expect(await chat.send('one')).toBeUndefined();
    expect(chat.state.outgoing[0]!.state).toMatchObject({
      is: 'refused',
      code: 'unavailable',
      message: 'the store is away',
      final: false,
    });
    await until(() => stored().length === 1);
  });
  it('as misuse fails, and is kept', async () => {
    const { chat } = await live();
    server.fault = (_m, data) => (data?.text === 'odd' ? { error: { code: 409, message: 'conflict' } } : undefined);
    expect(await chat.send('odd')).toBeUndefined();
    expect(chat.state.outgoing[0]!.state).toEqual({ is: 'failed', code: 409, message: 'conflict' });
    expect(await chat.send('even')).toMatchObject({ status: 'accepted' });
    expect(chat.discard(chat.state.outgoing[0]!.cid)).toBe('odd');
  });
});

describe('discard', () => {
  it('takes back what waits, and not what is on the line', async () => {
    const { client, chat } = await live();
    server.fault = (method) => (method === 'chat.send' ? 'late' : undefined);
    const none = chat.send('on the line');
    await until(() => sends().length === 1);
    expect(chat.discard(sends()[0]!.cid)).toBeUndefined();
    await none;
    await server.stop();
    await until(() => client.line.is === 'offline');
    await chat.send('waiting');
    expect(chat.discard(chat.state.outgoing[0]!.cid)).toBe('waiting');
    expect(chat.state.outgoing).toEqual([]);
    await until(async () => (await kept()).length === 0);
  });
});

describe('two tabs on one store', () => {
  it.each([
    ['with Web Locks', true],
    ['without', false],
  ])('%s: nothing is there twice', async (_name, locked) => {
    const options = locked ? { locks: makeLocks() } : {};
    slow(store, 5);
    const a = await live(options);
    const { port } = server;
    await server.stop();
    await until(() => a.client.line.is === 'offline');
    for (let i = 0; i < 4; i++) void a.chat.send(`a${i}`);
    await until(async () => (await kept()).length === 4);
    const b = tab(options);
    await until(() => b.chat.state.outgoing.length === 4, 'the second tab shows what waits');
    void b.chat.send('b0');
    await server.start(port);
    await until(() => stored().length === 5);
    await until(() => a.chat.state.outgoing.length + b.chat.state.outgoing.length === 0);
    await until(async () => (await kept()).length === 0);
    expect(stored().filter((t) => t.startsWith('a'))).toEqual(['a0', 'a1', 'a2', 'a3']);
    expect(stored()).toHaveLength(5);
    if (locked) expect(sends()).toHaveLength(5);
  });
  it('what one tab took back is not sent by the other', async () => {
    const locks = makeLocks();
    const a = await live({ locks });
    const { port } = server;
    await server.stop();
    await until(() => a.client.line.is === 'offline');
    void a.chat.send('no');
    await until(async () => (await kept()).length === 1);
    const b = tab({ locks });
    await until(() => b.chat.state.outgoing.length === 1);
    b.chat.discard(b.chat.state.outgoing[0]!.cid);
    await until(async () => (await kept()).length === 0);
    await server.start(port);
    await until(() => a.chat.state.phase === 'live' && b.chat.state.phase === 'live');
    await until(() => a.chat.state.outgoing.length === 0);
    expect(sends()).toEqual([]);
  });
  it('a tab that is frozen with the lock does not silence the other for ever', async () => {
    const frozen = {
      request: (_n: string, o: { signal: AbortSignal }) =>
        new Promise((_r, reject) => {
          // The wait is ten seconds long; the test does not take them.
          queueMicrotask(() => {
            o.signal.throwIfAborted = () => undefined;
            reject(new DOMException('', 'AbortError'));
          });
        }),
    } as unknown as LockManager;
    const { chat } = await live({ locks: frozen });
    expect(await chat.send('still')).toMatchObject({ status: 'accepted' });
  });
});

describe('a store that fails', () => {
  it('does not keep a message from being sent', async () => {
    store.set = async () => {
      throw new DOMException('full', 'QuotaExceededError');
    };
    const { chat } = await live();
    expect(await chat.send('one')).toMatchObject({ status: 'accepted' });
    await until(() => chat.state.messages.length === 1 && chat.state.outgoing.length === 0);
  });
  it('or never answers, does not hold back what is sent', async () => {
    store.keys = () => new Promise(() => undefined);
    const { chat } = await live();
    expect(await chat.send('one')).toMatchObject({ status: 'accepted' });
  });
});

it('a cid is 22 characters that need no escaping', () => {
  const cids = Array.from({ length: 1000 }, makeCid);
  expect(new Set(cids).size).toBe(1000);
  expect(cids.every((x) => /^[A-Za-z0-9_-]{22}$/.test(x))).toBe(true);
});
