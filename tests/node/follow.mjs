/**
 * Follows one answer with npm `centrifuge` and nothing else, by the client's whole rule of docs/protocol.md.
 *
 *     node follow.mjs ws://127.0.0.1:8080/connection/websocket '{"token":"…","conv":"c_…","cid":"…","text":"…"}'
 *
 * Sends the text (again and again with the same cid, until it has the outcome), goes on until the final message of its
 * run, and prints one JSON object:
 *   outcome      of the send           final        the message that ended the run
 *   shown        the longest text that was shown of the run before it ended
 *   heard        offsets of durable events as they came
 *   messages     durable events, each once
 *   gaps, connects, unrecovered, taken_back
 */
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../sdk/js/package.json', import.meta.url));
const { Centrifuge } = require('centrifuge');
const WebSocket = require('ws');

const [, , url, json] = process.argv;
const { token, conv, cid, text, timeout_ms = 60_000 } = JSON.parse(json);
const result = { heard: [], messages: [], gaps: 0, connects: 0, unrecovered: 0, taken_back: 0, shown: '' };
const runs = new Map();
let last = 0;

const client = new Centrifuge(url, {
  token, websocket: WebSocket, minReconnectDelay: 5, maxReconnectDelay: 100,
});
const sub = client.newSubscription(`conv:${conv}`, {
  recoverable: true, positioned: true, minResubscribeDelay: 5, maxResubscribeDelay: 100,
});

function end(status, error) {
  if (error !== undefined) result.error = String(error);
  console.log(JSON.stringify(result));
  process.exit(status);
}
setTimeout(() => end(1, `timeout; state ${client.state}, ${sub.state}`), timeout_ms).unref();

function show(run, now) {
  if (!now.startsWith(runs.get(run) ?? '')) result.taken_back++;
  runs.set(run, now);
  if (run === result.outcome?.run && now.length > result.shown.length) result.shown = now;
}

async function askRun(run) {
  result.gaps++;
  try {
    const { data } = await client.rpc('run.get', { run, conv });
    if (data.t !== 'msg' && runs.has(run) && data.text.length > runs.get(run).length) show(run, data.text);
  } catch { /* the line broke: the next snapshot tells */ }
}

function finish() {
  const final = result.messages.find((e) => e.t === 'msg' && e.run !== undefined && e.run === result.outcome?.run);
  if (final !== undefined) {
    result.final = final;
    end(0);
  }
}

client.on('connected', () => { result.connects++; });
client.on('disconnected', (ctx) => end(1, `disconnected ${ctx.code} ${ctx.reason}`));
sub.on('unsubscribed', (ctx) => end(1, `unsubscribed ${ctx.code} ${ctx.reason}`));
sub.on('subscribed', (ctx) => {
  if (ctx.wasRecovering && !ctx.recovered) result.unrecovered++;
  const known = new Map(runs);
  runs.clear();
  for (const run of ctx.data.runs) {
    runs.set(run.r, known.get(run.r) ?? '');
    show(run.r, run.text);
  }
});
sub.on('publication', ({ data, offset }) => {
  if (offset) {
    result.heard.push(offset);
    if (offset <= last) return;
    last = offset;
    result.messages.push(data);
    if (data.t === 'msg' && data.run !== undefined) {
      if (!data.text.startsWith(runs.get(data.run) ?? '')) result.taken_back++;
      runs.delete(data.run);
      finish();
    }
  } else if (data.t === 'd' && data.k === undefined) {
    const have = runs.get(data.r) ?? '';
    if (data.p > have.length) void askRun(data.r);
    else if (data.p + data.s.length > have.length) show(data.r, have.slice(0, data.p) + data.s);
  }
});

async function send() {
  while (result.outcome === undefined) {
    try {
      result.outcome = (await client.rpc('chat.send', { conv, cid, text })).data;
    } catch (error) {
      if (error.code === undefined || (error.code >= 100 && !error.temporary)) end(1, `send: ${JSON.stringify(error)}`);
      await new Promise((resolve) => setImmediate(resolve));
      try { await client.ready(); } catch { /* tried again above */ }
    }
  }
  finish();
}

sub.subscribe();
client.connect();
await client.ready();
void send();
