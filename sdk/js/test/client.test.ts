import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { Client } from '../src/client.js';
import type { ClientOptions } from '../src/client.js';
import { MemoryStore } from '../src/store.js';
import type { Conversation, ConversationState, LineState } from '../src/types.js';
import { makeRandom } from './model.js';
import type { ModelConversation } from './model.js';
import { makeLocks, TestServer, until } from './server.js';

let server: TestServer;
let clients: Client[] = [];
const events: { offset: number; isNew: boolean }[] = [];

function make(options: ClientOptions = {}): Client {
  const client = new Client({
    url: server.url,
    websocket: WebSocket,
    reconnect_ms: { min: 2, max: 10 },
    command_ms: 1000,
    onEvent: (_conv, _data, offset, isNew) => {
      if (offset !== undefined) events.push({ offset, isNew });
    },
    ...options,
  });
  clients.push(client);
  return client;
}
async function online(client: Client): Promise<void> {
  client.connect();
  await until(() => client.line.is === 'online', 'online');
}
/** A client that is online as the first guest, and looks at a conversation of theirs. */
async function talking(
  options: ClientOptions = {},
): Promise<{ client: Client; chat: Conversation; conv: ModelConversation }> {
  const client = make(options);
  await online(client);
  const conv = server.make('c_1', client.me!.user);
  const chat = client.conversation('c_1');
  await until(() => chat.state.phase === 'live', 'live');
  return { client, chat, conv };
}

beforeEach(async () => {
  server = await new TestServer().start();
  events.length = 0;
});
afterEach(async () => {
  for (const c of clients) c.close();
  clients = [];
  await server.stop();
});

describe('who I am', () => {
  it('a new guest keeps the token and comes again as the same one', async () => {
    const store = new MemoryStore();
    const first = make({ store });
    await online(first);
    expect(first.me).toMatchObject({ user: 'u_1', guest: true, version: '0.1.0', limits: { text_bytes: 1000 } });
    first.close();
    const second = make({ store });
    await online(second);
    expect(second.me!.user).toBe('u_1');
    expect(server.tokens).toEqual(['', 'token-u_1']);
  });
  it('reconnects with the token it was given', async () => {
    const client = make();
    await online(client);
    server.cut();
    await until(() => client.line.is === 'offline');
    await until(() => client.line.is === 'online');
    expect(server.tokens).toEqual(['', 'token-u_1']);
    expect(client.me!.user).toBe('u_1');
  });
  it('a stored token that is worth nothing any more is dropped: a new guest, once', async () => {
    const store = new MemoryStore();
    await store.set('token', 'token-of-another-server');
    const client = make({ store });
    const users: string[] = [];
    client.onMe((m) => users.push(m.user));
    const old = client.conversation('c_old');
    await online(client);
    expect(server.tokens).toEqual(['token-of-another-server', '']);
    expect(users).toEqual(['u_1']);
    expect(await store.get('token')).toBe('token-u_1');
    await until(() => old.state.phase === 'gone', 'what belonged to the other guest is gone');
  });
  it('a server that takes no guests is an end, not a loop', async () => {
    server.refuseConnect = { code: 3500, reason: 'invalid token' };
    const store = new MemoryStore();
    await store.set('token', 'x');
    const client = make({ store });
    client.connect();
    await until(() => client.line.is === 'closed');
    expect(client.line).toMatchObject({ code: 3500, reason: 'invalid token' });
    expect(server.tokens).toEqual(['x', '']);
  });
  it('a server that throws out every guest it makes is an end, not a loop', async () => {
    const client = make();
    client.onLine((l) => {
      if (l.is === 'online') server.close(3500, 'invalid token');
    });
    client.connect();
    await until(() => client.line.is === 'closed');
    expect(server.tokens).toEqual(['', '']);
  });
  it('an expired token of a guest leads to a new guest', async () => {
    const store = new MemoryStore();
    await store.set('token', 'old');
    server.connectError = { code: 109, message: 'token expired' };
    const client = make({ store });
    client.connect();
    await until(() => server.tokens.length === 1);
    server.connectError = undefined;
    await until(() => client.line.is === 'online');
    expect(client.me!.user).toBe('u_1');
  });
  it('an application gives its own token', async () => {
    server.validTokens.add('token-u_app');
    const client = make({ getToken: async () => 'token-u_app' });
    await online(client);
    expect(client.me!.user).toBe('u_app');
  });
  it('two tabs that come for the first time become one guest', async () => {
    const store = new MemoryStore();
    const locks = makeLocks();
    const [a, b] = [make({ store, locks }), make({ store, locks })];
    await Promise.all([online(a), online(b)]);
    expect(a.me!.user).toBe(b.me!.user);
    expect(server.tokens).toEqual(['', 'token-u_1']);
  });
});

describe('the line', () => {
  it('says connecting, online, offline, online, closed, and calls for each once', async () => {
    const client = make();
    const heard: LineState['is'][] = [];
    client.onLine((l) => heard.push(l.is));
    await online(client);
    server.cut();
    await until(() => heard.length === 4);
    client.close();
    expect(heard).toEqual(['connecting', 'online', 'offline', 'online', 'closed']);
  });
  it('is offline within a second after the socket died, with all that was only true on it', async () => {
    const { client, chat, conv } = await talking();
    server.ephemeral(conv, { t: 'typing', u: 'u_2', on: true });
    await until(() => chat.state.typing.length === 1);
    const { port } = server;
    const begin = performance.now();
    await server.stop();
    await until(() => client.line.is === 'offline', 'offline', 1000);
    expect(performance.now() - begin).toBeLessThan(1000);
    expect(chat.state).toMatchObject({ phase: 'stale', typing: [] });
    await server.start(port);
    await until(() => chat.state.phase === 'live');
  });
  it('is offline when the first try fails, and comes up when there is a server', async () => {
    const { port } = server;
    await server.stop();
    const client = make();
    client.connect();
    expect(client.line.is).toBe('connecting');
    await until(() => client.line.is === 'offline');
    await server.start(port);
    await until(() => client.line.is === 'online');
  });
  it('connect() while offline tries at once', async () => {
    const client = make({ reconnect_ms: { min: 60_000, max: 60_000 } });
    await online(client);
    server.cut();
    await until(() => client.line.is === 'offline');
    client.connect();
    expect(client.line.is).toBe('connecting');
    await until(() => client.line.is === 'online');
  });
  it('survives a shutdown with its code', async () => {
    const client = make();
    await online(client);
    server.close(3001, 'shutdown');
    await until(() => client.line.is === 'offline');
    expect(client.line).toMatchObject({ code: 3001, reason: 'shutdown' });
    await until(() => client.line.is === 'online');
  });
  it('a listener that throws does not break it', async () => {
    const caught: unknown[] = [];
    const own = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (e) => caught.push(e));
    try {
      const { client, chat, conv } = await talking();
      chat.subscribe(() => {
        throw new Error('mine');
      });
      server.publish(conv, conv.say('u_2', 'one', undefined, undefined, false));
      server.publish(conv, conv.say('u_2', 'two', undefined, undefined, false));
      await until(() => chat.state.messages.length === 2);
      expect(client.line.is).toBe('online');
      await until(() => caught.length > 0);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const f of own) process.on('uncaughtException', f);
    }
  });
});

describe('the list', () => {
  it('is loaded, kept in step by the inbox, newest first', async () => {
    const client = make();
    await online(client);
    const first = await client.create({ title: 'first' });
    const second = await client.create({ title: 'second' });
    await until(() => client.list.length === 2);
    const chat = client.conversation(first);
    await chat.send('hello');
    await until(() => client.list[0]?.id === first);
    expect(client.list[0]).toMatchObject({ last: 'hello', running: true });
    await chat.stop();
    await until(() => client.list[0]?.running === false);
    await client.rename(second, 'renamed');
    await until(() => client.list.some((x) => x.title === 'renamed'));
    await client.remove(second);
    expect(client.list.map((x) => x.id)).toEqual([first]);
  });
  it('hears in a second tab what the first did', async () => {
    const store = new MemoryStore();
    const a = make({ store });
    await online(a);
    const b = make({ store });
    await online(b);
    const id = await a.create({ title: 'x' });
    await until(() => b.list.length === 1);
    const there = b.conversation(id);
    await until(() => there.state.phase === 'live');
    await a.remove(id);
    await until(() => there.state.phase === 'gone' && b.list.length === 0);
  });
  it('is recovered after a cut, and asked for when the inbox has lost events', async () => {
    const client = make();
    await online(client);
    await until(() => server.heard.length === 1);
    server.cut();
    server.make('c_x', 'u_1');
    server.tellInbox('u_1', { t: 'conv', conv: server.summary(server.conversations.get('c_x')!) });
    await until(() => client.list.length === 1, 'recovered');
    expect(server.heard.map((x) => x.method)).toEqual(['conv.list']);
    server.inboxEpoch = 'i2';
    server.make('c_y', 'u_1');
    server.cut();
    await until(() => client.list.length === 2, 'listed');
    expect(server.heard.map((x) => x.method)).toEqual(['conv.list', 'conv.list']);
  });
  it('puts what the inbox says while conv.list is under way on top of the answer', async () => {
    server.validTokens.add('token-u_7');
    server.fault = (method) => (method === 'conv.list' ? 'late' : undefined);
    const client = make({ token: 'token-u_7' });
    const conv = server.make('c_x', 'u_7');
    await online(client);
    await until(() => server.heard.length === 1);
    conv.title = 'newer';
    server.publish(conv, conv.say('u_7', 'hi', undefined, undefined, false));
    server.release();
    await until(() => client.list.length === 1);
    expect(client.list[0]).toMatchObject({ title: 'newer', last: 'hi' });
  });
  it('loads more', async () => {
    server.validTokens.add('token-u_7');
    for (let i = 0; i < 60; i++) server.make(`c_${i}`, 'u_7').title = `t${i}`;
    const client = make({ token: 'token-u_7' });
    await online(client);
    await until(() => client.list.length === 50);
    await client.loadMoreList();
    expect(client.list.length).toBe(60);
    await client.loadMoreList();
    expect(client.list.length).toBe(60);
  });
});

describe('a conversation', () => {
  it('shows a turn, and every change is a new object', async () => {
    const { chat, conv } = await talking();
    const states: ConversationState[] = [];
    chat.subscribe((s) => states.push(s));
    const outcome = await chat.send('Hi, I am Ada');
    expect(outcome).toMatchObject({ status: 'accepted', offset: 1, msg: 'm_0001' });
    const run = outcome!.run!;
    server.write(conv, run, 'Hello');
    server.write(conv, run, ' Ada!');
    await until(() => chat.state.runs[0]?.text === 'Hello Ada!');
    server.end(conv, run);
    await until(() => chat.state.messages.length === 2);
    expect(chat.state).toMatchObject({ runs: [], outgoing: [], phase: 'live' });
    expect(new Set(states).size).toBe(states.length);
    // At no moment was the message away or there twice.
    for (const s of states) expect(s.messages.filter((m) => m.by.kind === 'user').length + s.outgoing.length).toBe(1);
  });
  it('cut twenty times during one answer, ends with exactly the final text, each event once and in order', async () => {
    const random = makeRandom(7);
    const { chat, conv } = await talking();
    const { run } = (await chat.send('q'))!;
    let shown = '';
    chat.subscribe((s) => {
      const text = s.runs[0]?.text ?? s.messages[1]?.text;
      if (text === undefined) return;
      // Nothing that was shown is taken back.
      expect(text.startsWith(shown), `${JSON.stringify(text)} after ${JSON.stringify(shown)}`).toBe(true);
      shown = text;
    });
    server.mangle = (d) => (random.below(5) === 0 ? [] : random.below(5) === 0 ? [d, d] : [d]);
    for (let cut = 0; cut < 20; cut++) {
      for (let i = random.below(6); i >= 0; i--)
        server.write(conv, run!, random.pick(['Hello ', '👩‍🚀 ', 'naïve ', '𝒜 ']));
      if (random.below(3) === 0) server.publish(conv, conv.state('title', `title ${cut}`));
      server.cut();
      for (let i = random.below(4); i > 0; i--) server.write(conv, run!, 'unheard ');
      if (random.below(3) > 0) await until(() => chat.state.phase === 'live', 'back');
    }
    server.write(conv, run!, 'The end.');
    server.end(conv, run!);
    await until(() => chat.state.messages.length === 2);
    expect(chat.state.messages[1]!.text).toBe(conv.path()[1]!.text);
    const folded = events.filter((e) => e.isNew).map((e) => e.offset);
    expect(folded).toEqual(Array.from({ length: conv.top }, (_, i) => i + 1));
    expect(server.heard.filter((x) => x.method === 'conv.open')).toHaveLength(1);
  });
  it('asks run.get for a gap, once, and goes on with what came meanwhile', async () => {
    const { chat, conv } = await talking();
    const { run } = (await chat.send('q'))!;
    server.write(conv, run!, 'a');
    server.mangle = () => [];
    server.write(conv, run!, 'b');
    server.mangle = (d) => [d];
    server.fault = (method) => (method === 'run.get' ? 'late' : undefined);
    server.write(conv, run!, 'c');
    server.write(conv, run!, 'd');
    await until(() => server.heard.some((x) => x.method === 'run.get'));
    expect(chat.state.runs[0]).toMatchObject({ text: 'a', known: false });
    server.write(conv, run!, 'e');
    await until(() => conv.runs.get(run!)!.text === 'abcde');
    server.release();
    await until(() => chat.state.runs[0]?.text === 'abcde');
    expect(server.heard.filter((x) => x.method === 'run.get')).toEqual([
      { method: 'run.get', data: { run, conv: 'c_1' }, user: 'u_1' },
    ]);
  });
  it.each([true, false])('learns from run.get that a run has ended before its event came (bare %s)', async (bare) => {
    server.bareFinal = bare;
    const { chat, conv } = await talking();
    const { run } = (await chat.send('q'))!;
    server.write(conv, run!, 'a');
    await until(() => chat.state.runs[0]?.text === 'a');
    server.holdEvents = true;
    server.mangle = () => [];
    server.write(conv, run!, 'b');
    server.mangle = (d) => [d];
    server.write(conv, run!, 'c');
    server.end(conv, run!);
    await until(() => chat.state.runs[0]?.text === 'abc');
    expect(chat.state.messages).toHaveLength(1);
    server.release();
    await until(() => chat.state.messages[1]?.text === 'abc' && chat.state.runs.length === 0);
  });
  it('opens anew when the log cannot be recovered, and never shows nothing', async () => {
    const { chat, conv } = await talking();
    for (let i = 0; i < 5; i++) server.publish(conv, conv.say('u_2', `t${i}`, undefined, undefined, false));
    await until(() => chat.state.messages.length === 5);
    const lengths: number[] = [];
    chat.subscribe((s) => lengths.push(s.messages.length));
    conv.restore(3);
    conv.say('u_2', 'another history', undefined, undefined, false);
    server.cut();
    await until(() => chat.state.epoch === 'e1.g2');
    expect(chat.state.messages.map((m) => m.text)).toEqual(['t0', 't1', 't2', 'another history']);
    await until(() => chat.state.phase === 'live');
    expect(Math.min(...lengths)).toBe(4);
  });
  it('retries conv.open while the store is away', async () => {
    let fails = 2;
    server.fault = (method) =>
      method === 'conv.open' && fails-- > 0
        ? { error: { code: 503, message: 'unavailable', temporary: true } }
        : undefined;
    const { chat } = await talking();
    expect(chat.state.phase).toBe('live');
    expect(fails).toBe(-1);
  });
  it('that may not be seen is gone', async () => {
    const client = make();
    await online(client);
    server.make('c_other', 'u_other');
    const chat = client.conversation('c_other');
    await until(() => chat.state.phase === 'gone');
  });
  it('that conv.open does not find is gone', async () => {
    server.fault = (method) => (method === 'conv.open' ? { error: { code: 404, message: 'not found' } } : undefined);
    const client = make();
    await online(client);
    server.make('c_1', 'u_1');
    const chat = client.conversation('c_1');
    await until(() => chat.state.phase === 'gone');
  });
  it('loads older pages up to the first message', async () => {
    const { client, conv } = await talking();
    for (let i = 0; i < 120; i++) conv.say('u_2', `t${i}`, undefined, undefined, false);
    client.conversation('c_1').close();
    const chat = client.conversation('c_1');
    await until(() => chat.state.phase === 'live');
    expect(chat.state.messages.length).toBe(50);
    expect(chat.state.older).toBe(true);
    const pages = [chat.loadOlder(), chat.loadOlder()];
    expect(chat.state.loadingOlder).toBe(true);
    await Promise.all(pages);
    expect(chat.state.messages.length).toBe(100);
    await chat.loadOlder();
    expect(chat.state).toMatchObject({ older: false, loadingOlder: false });
    expect(chat.state.messages.map((m) => m.text)).toEqual(Array.from({ length: 120 }, (_, i) => `t${i}`));
    await chat.loadOlder();
    expect(server.heard.filter((x) => x.method === 'conv.open' && x.data.before !== undefined)).toHaveLength(2);
  });
  it('stops, and regenerates: the second tab follows', async () => {
    const store = new MemoryStore();
    const { chat, conv } = await talking({ store });
    const other = make({ store });
    await online(other);
    const there = other.conversation('c_1');
    await until(() => there.state.phase === 'live');
    const { run } = (await chat.send('q'))!;
    server.write(conv, run!, 'partial');
    await until(() => there.state.runs[0]?.text === 'partial');
    await there.stop(run);
    await until(() => chat.state.messages[1]?.status === 'stopped');
    const old = chat.state.messages[1]!.id;
    const again = await chat.regenerate(old, { continue: true });
    expect(again.status).toBe('accepted');
    await until(() => there.state.runs.length === 1 && there.state.messages.length === 1);
    server.write(conv, again.run!, 'whole');
    server.end(conv, again.run!);
    await until(() => there.state.messages[1]?.text === 'whole' && chat.state.messages[1]?.text === 'whole');
    expect(there.state.messages[1]!.siblings).toEqual([old, there.state.messages[1]!.id]);
    expect(server.heard.filter((x) => x.method === 'msg.regenerate')[0]!.data).toMatchObject({
      conv: 'c_1',
      msg: old,
      continue: true,
    });
  });
  it('typing and reading are told sparingly', async () => {
    const { client, chat, conv } = await talking();
    server.publish(conv, conv.say('u_2', 'a', undefined, undefined, false));
    await until(() => chat.state.offset === 1);
    chat.setTyping(true);
    chat.setTyping(true);
    chat.setTyping(false);
    chat.setTyping(false);
    for (let i = 0; i < 5; i++) chat.setRead(1);
    expect(chat.state.read).toEqual({ [client.me!.user]: 1 });
    await until(() => server.heard.some((x) => x.method === 'read.set'));
    await until(() => conv.read.u_1 === 1);
    expect(server.heard.filter((x) => x.method === 'typing.set').map((x) => x.data.on)).toEqual([true, false]);
    expect(server.heard.filter((x) => x.method === 'read.set')).toHaveLength(1);
  });
  it('closed is left, and can be had anew', async () => {
    const { client, chat, conv } = await talking();
    chat.close();
    server.publish(conv, conv.say('u_2', 'a', undefined, undefined, false));
    const again = client.conversation('c_1');
    expect(again).not.toBe(chat);
    await until(() => again.state.messages.length === 1);
    expect(chat.state.messages.length).toBe(0);
    expect(client.conversation('c_1')).toBe(again);
  });
});

describe('commands', () => {
  it('that create are asked again with the same cid while the outcome is unknown', async () => {
    const client = make();
    await online(client);
    let fails = 2;
    server.fault = (method) => (method === 'conv.create' && fails-- > 0 ? 'drop-after' : undefined);
    await client.create({ title: 'once' });
    await until(() => client.line.is === 'online');
    const asked = server.heard.filter((x) => x.method === 'conv.create');
    expect(asked.length).toBe(3);
    expect(new Set(asked.map((x) => x.data.cid)).size).toBe(1);
    expect(server.conversations.size).toBe(1);
  });
  it('throw KithError with the code of the protocol', async () => {
    const client = make();
    await expect(client.call('conv.open', {})).rejects.toMatchObject({ name: 'KithError', temporary: true });
    await online(client);
    await expect(client.call('no.such', {})).rejects.toMatchObject({ name: 'KithError', code: 104, temporary: false });
    await expect(client.rename('c_none', 'x')).rejects.toMatchObject({ code: 404 });
    await client.remove('c_none');
  });
});
