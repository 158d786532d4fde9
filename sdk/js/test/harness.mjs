#!/usr/bin/env node
/**
 * Talks to a real server with this package, through a line that is cut, and says what came out of it.
 *
 *     npm run build && node test/harness.mjs http://127.0.0.1:8080 '{"text":"Tell me a story","cuts":20,"seed":7}'
 *
 * The scenario, all of it optional:
 *   text        one question; short for steps [{"send": text}]
 *   steps       what to do, in order; each waits until nothing runs and nothing is on its way, unless "wait": false
 *                 {"send": "…", "during_run"?: "queue|cancel|reject"}   {"stop": true, "after_chars"?: n}
 *                 {"regenerate": true, "continue"?: true}   (the last answer shown)   {"wait": true}
 *   cuts        how often the socket is killed while answers are made (0); cut_ms [min, max] between two (5, 60)
 *   conv        id of the conversation; made when missing
 *   token       connection JWT; a guest when missing
 *   store       a file that keeps the guest's token and the outbox for the next call, as a browser does
 *   seed        of all chance here (1); timeout_ms for the whole (60000)
 *
 * Prints one JSON object and exits with 0 when every step came to its end, 1 when not:
 *   ok, error?, user, conv, phase, epoch, offset
 *   text, status, why?      of the last message of the AI on the shown path
 *   messages                the shown path
 *   offsets                 durable events folded by the reducer, in order: each once, growing
 *   heard                   durable events as they came from the line, those that came twice twice
 *   outgoing                what never got through
 *   outcomes                of the sends that got one, in order
 *   cuts, connects          how often the line was cut and came up
 *   taken_back              how often text that had been shown was no longer the beginning of what is shown (0 is right)
 *   gaps                    how often a gap in a run's text was seen
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import WebSocket from 'ws';
import { Client, MemoryStore } from '../dist/index.js';

const [, , address, json = '{}'] = process.argv;
if (address === undefined) {
  console.error('usage: harness.mjs URL [SCENARIO-JSON]');
  process.exit(2);
}
const scenario = JSON.parse(json);
const { cuts = 0, cut_ms = [5, 60], seed = 1, timeout_ms = 60_000 } = scenario;
const steps = scenario.steps ?? [{ send: scenario.text ?? 'Hello' }];

/** Everything in one JSON file. */
class FileStore {
  constructor(path) {
    this.path = path;
    this.values = new Map(existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : []);
  }
  save() {
    writeFileSync(this.path, JSON.stringify([...this.values]));
  }
  async get(key) {
    return this.values.get(key);
  }
  async set(key, value) {
    this.values.set(key, value);
    this.save();
  }
  async delete(key) {
    if (this.values.delete(key)) this.save();
  }
  async keys(prefix) {
    return [...this.values.keys()].filter((k) => k.startsWith(prefix)).sort();
  }
}

let chance = seed >>> 0;
function random() {
  chance = (chance + 0x6d2b79f5) | 0;
  let t = Math.imul(chance ^ (chance >>> 15), 1 | chance);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

const sockets = new Set();
class KillableSocket extends WebSocket {
  constructor(...args) {
    super(...args);
    sockets.add(this);
    this.once('close', () => sockets.delete(this));
  }
}

const url = new URL(address);
url.protocol = url.protocol.replace('http', 'ws');
if (url.pathname === '/') url.pathname = '/connection/websocket';

const result = { ok: false, offsets: [], heard: [], outcomes: [], cuts: 0, connects: 0, taken_back: 0, gaps: 0 };
const client = new Client({
  url: url.href,
  websocket: KillableSocket,
  token: scenario.token,
  name: 'harness',
  store: scenario.store === undefined ? new MemoryStore() : new FileStore(scenario.store),
  reconnect_ms: { min: 5, max: 200 },
  onEvent: (_conv, _data, offset, isNew) => {
    if (offset === undefined) return;
    result.heard.push(offset);
    if (isNew) result.offsets.push(offset);
  },
});
client.onLine((l) => {
  if (l.is === 'online') result.connects++;
});

const end = Date.now() + timeout_ms;
async function until(check, what) {
  while (!check()) {
    if (client.line.is === 'closed') throw new Error(`the line is closed: ${client.line.code} ${client.line.reason}`);
    if (Date.now() > end) throw new Error(`timeout while waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Watches what is shown of each answer: text may grow, and is replaced only by its final message. */
const shown = new Map();
function watch(state) {
  for (const r of state.runs) {
    const before = shown.get(r.msg);
    if (before !== undefined && !r.text.startsWith(before.text)) result.taken_back++;
    if (!r.known && before?.known !== false) result.gaps++;
    shown.set(r.msg, { text: r.text, known: r.known });
  }
  for (const m of state.messages) {
    const before = shown.get(m.id);
    if (before !== undefined && m.status !== 'blocked' && !m.text.startsWith(before.text)) result.taken_back++;
    shown.delete(m.id);
  }
}

/** Kills the socket at random moments as long as something runs. */
async function cutAll(chat, over) {
  while (result.cuts < cuts && !over.done) {
    await new Promise((resolve) => setTimeout(resolve, cut_ms[0] + random() * (cut_ms[1] - cut_ms[0])));
    if (chat.state.runs.length === 0 || sockets.size === 0) continue;
    for (const s of sockets) s.terminate();
    result.cuts++;
    // Most times it comes back before the next cut; sometimes it is cut while it still is coming back.
    const patient = random() < 0.8;
    while (patient && !over.done && chat.state.phase !== 'live') await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

let chat;
const over = { done: false };
try {
  client.connect();
  await until(() => client.line.is === 'online', 'to be online');
  const conv = scenario.conv ?? (await client.create({}));
  chat = client.conversation(conv);
  chat.subscribe(watch);
  await until(() => chat.state.phase === 'live', 'the conversation');
  const cutting = cutAll(chat, over);
  const quiet = () =>
    chat.state.phase === 'live' &&
    chat.state.runs.length === 0 &&
    chat.state.outgoing.every(
      (o) => o.state.is === 'failed' || (o.state.is === 'refused' && o.state.retry_at === undefined),
    );
  for (const step of steps) {
    if (step.send !== undefined) {
      const sent = chat.send(step.send, step.during_run === undefined ? undefined : { during_run: step.during_run });
      void sent.then((o) => {
        if (o !== undefined) result.outcomes.push(o);
      });
    } else if (step.stop) {
      const chars = step.after_chars ?? 0;
      await until(() => chat.state.runs.some((r) => r.text.length >= chars), `${chars} characters of an answer`);
      result.outcomes.push(await chat.stop());
    } else if (step.regenerate) {
      const last = chat.state.messages.findLast((m) => m.by.kind === 'ai');
      if (last === undefined) throw new Error('there is no answer to make again');
      result.outcomes.push(await chat.regenerate(last.id, { continue: step.continue === true }));
      await until(
        () => chat.state.runs.length > 0 || chat.state.messages.findLast((m) => m.by.kind === 'ai')?.id !== last.id,
        'the new answer',
      );
    }
    if (step.wait !== false) await until(quiet, `the end of ${JSON.stringify(step)}`);
  }
  await until(quiet, 'the end');
  over.done = true;
  await cutting;
  result.ok = true;
} catch (e) {
  result.error = e instanceof Error ? e.message : String(e);
}
over.done = true;
if (chat !== undefined) {
  const { state } = chat;
  const last = state.messages.findLast((m) => m.by.kind === 'ai');
  Object.assign(result, {
    user: client.me?.user,
    conv: chat.id,
    phase: state.phase,
    epoch: state.epoch,
    offset: state.offset,
    text: last?.text,
    status: last?.status,
    why: last?.why,
    messages: state.messages,
    outgoing: state.outgoing,
  });
}
client.close();
console.log(JSON.stringify(result));
process.exit(result.ok ? 0 : 1);
