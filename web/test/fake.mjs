/**
 * A small server that speaks the conversation protocol, for developing and testing the page by itself: everything in
 * memory, one process, no checks beyond what the page can notice. Answers come from an OpenAI-compatible `upstream`, as
 * the real server's do, so the same scripted model drives both.
 *
 *     node test/fake.mjs [--port N] [--upstream http://127.0.0.1:9999/v1]
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { WebSocketServer } from 'ws';

const WEB = process.env.KITH_WEB ?? fileURLToPath(new URL('../../build/web', import.meta.url));
const COALESCE_MS = 30;
const PERSONAS = [
  {
    id: 'p_default',
    name: 'Kit',
    greeting: 'I’m Kit. Ask me something, or let me take something off your list.',
    suggestions: [
      'Plan a weekend: two days, one bag, no rush',
      'Read a letter with me: and find the friendly answer',
      'Cook what is there: eggs, leeks, half a lemon',
      'Explain it simply: tides, taxes or tensors',
    ],
  },
];

let sequence = 0;
/** Sorts by time, as the real ids do. */
const makeId = (letter) =>
  `${letter}_${Date.now().toString(36).padStart(10, '0')}${(sequence++).toString(36).padStart(6, '0')}${randomBytes(5).toString('hex')}`.slice(
    0,
    28,
  );
class Fault extends Error {
  constructor(code, message, temporary = false) {
    super(message);
    this.code = code;
    this.temporary = temporary;
  }
}

export async function startFake({ port = 0, upstream, personas = PERSONAS, web = WEB } = {}) {
  const users = new Map();
  const conversations = new Map();
  const runs = new Map();
  const sessions = new Set();
  let readyText = '';

  /* ---- fan-out ---- */
  const push = (channel, pub, only) => {
    const frame = JSON.stringify({ push: { channel, pub } });
    for (const s of sessions) if (s.channels.has(channel) && (only === undefined || s.user === only)) s.ws.send(frame);
  };
  const summaryOf = (c, user) => {
    const path = pathOf(c);
    const read = c.read.get(user) ?? 0;
    const last = path[path.length - 1];
    return {
      id: c.id,
      title: c.title,
      head: c.log.length,
      unread: path.filter((m) => m.offset > read && m.by.id !== user).length,
      last: last?.text.slice(0, 200),
      mode: c.mode,
      updated: c.updated,
      persona: c.persona,
    };
  };
  const inbox = (c) => push(`#${c.owner}`, { data: { t: 'conv', conv: summaryOf(c, c.owner) } });
  const append = (c, event) => {
    const offset = c.log.length + 1;
    const ts = Math.max(c.log[c.log.length - 1]?.ts ?? 0, Date.now());
    const stored = { ...event, ts };
    c.log.push(stored);
    c.updated = ts;
    if (event.t === 'msg') {
      c.messages.set(event.id, { ...stored, offset });
      if (event.parent === c.head || c.reserved.get(event.parent) === c.head) c.head = event.id;
    }
    if (event.t === 'state' && event.k === 'head') c.head = event.v;
    if (event.t === 'state' && event.k === 'title') c.title = event.v;
    push(`conv:${c.id}`, { data: stored, offset, ...(offset === 1 ? { epoch: c.epoch } : {}) });
    inbox(c);
    return offset;
  };
  const tell = (c, data) => push(`conv:${c.id}`, { data });

  /* ---- the tree ---- */
  const pathOf = (c) => {
    const out = [];
    for (
      let id = c.head;
      id !== null && id !== undefined;
      id = c.messages.get(id)?.parent ?? c.reserved.get(id) ?? null
    ) {
      const m = c.messages.get(id);
      if (m) out.unshift(m);
    }
    return out;
  };
  const tip = (c) => {
    let at = c.head;
    for (;;) {
      const run = c.runs.find((r) => r.parent === at);
      const next = run?.msg ?? [...c.messages.values()].findLast((m) => m.parent === at)?.id;
      if (next === undefined) return at;
      at = next;
    }
  };
  const siblings = (c, m) =>
    [...c.messages.values()].filter((x) => x.parent === m.parent && x.by.kind === m.by.kind).map((x) => x.id);

  /* ---- runs ---- */
  const entry = (r) => ({
    r: r.id,
    m: r.msg,
    parent: r.parent,
    by: r.by,
    st: r.st,
    text: r.text,
    p: r.text.length,
    model: r.model,
  });
  const next = (c) => {
    const r = c.runs[0];
    if (r && r.st === 'queued') void work(c, r);
    c.runs.forEach((x, i) => {
      if (i > 0 && x.st === 'queued') tell(c, { t: 'st', r: x.id, st: 'queued', pos: i });
    });
  };
  const end = (c, r, status, why, usage) => {
    if (r.over) return;
    r.over = true;
    flush(c, r);
    c.runs = c.runs.filter((x) => x !== r);
    runs.delete(r.id);
    append(c, {
      t: 'msg',
      id: r.msg,
      parent: r.parent,
      run: r.id,
      by: r.by,
      text: r.text,
      status,
      model: r.model,
      ...(why ? { why } : {}),
      ...(usage ? { usage } : {}),
    });
    push(`#${c.owner}`, { data: { t: 'run', conv: c.id, run: r.id, on: false } });
    next(c);
  };
  const flush = (c, r) => {
    clearTimeout(r.timer);
    r.timer = undefined;
    if (r.sent < r.text.length) {
      tell(c, { t: 'd', r: r.id, m: r.msg, p: r.sent, s: r.text.slice(r.sent) });
      r.sent = r.text.length;
    }
  };
  const heard = (c, r, piece) => {
    if (piece === '' || r.over) return;
    r.st = 'writing';
    r.text += piece;
    if (r.sent === 0) flush(c, r);
    else r.timer ??= setTimeout(() => flush(c, r), COALESCE_MS);
  };
  async function work(c, r) {
    r.st = 'thinking';
    tell(c, { t: 'st', r: r.id, st: 'thinking' });
    push(`#${c.owner}`, { data: { t: 'run', conv: c.id, run: r.id, on: true } });
    if (r.text !== '') {
      r.st = 'writing';
      flush(c, r);
    }
    const messages = [];
    for (let id = r.parent; id; id = c.messages.get(id)?.parent ?? c.reserved.get(id) ?? null) {
      const m = c.messages.get(id);
      if (m && m.text !== '') messages.unshift({ role: m.by.kind === 'user' ? 'user' : 'assistant', content: m.text });
    }
    let finished;
    let usage;
    try {
      const res = await fetch(`${upstream}/chat/completions`, {
        method: 'POST',
        signal: r.abort.signal,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: r.model, stream: true, messages }),
      });
      if (!res.ok) return end(c, r, 'failed', 'upstream_error');
      let rest = '';
      const decoder = new TextDecoder();
      for await (const part of res.body) {
        rest += decoder.decode(part, { stream: true });
        const lines = rest.split('\n\n');
        rest = lines.pop();
        for (const line of lines) {
          const data = line.replace(/^data: /, '');
          if (data === '[DONE]') return end(c, r, 'complete', finished === 'length' ? 'length' : undefined, usage);
          const event = JSON.parse(data);
          if (event.error) return end(c, r, 'failed', 'upstream_error');
          if (event.usage) usage = { in: event.usage.prompt_tokens, out: event.usage.completion_tokens };
          finished = event.choices?.[0]?.finish_reason ?? finished;
          heard(c, r, event.choices?.[0]?.delta?.content ?? '');
        }
      }
      return end(c, r, 'failed', 'upstream_closed');
    } catch (e) {
      return r.stopped
        ? undefined
        : end(c, r, 'failed', e.cause?.code === 'ECONNREFUSED' ? 'model_unavailable' : 'upstream_closed');
    }
  }
  const makeRun = (c, parent, text = '') => {
    const persona = personas.find((p) => p.id === c.persona) ?? personas[0];
    const r = {
      id: makeId('r'),
      msg: makeId('m'),
      parent,
      by: { kind: 'ai', id: persona.id, name: persona.name },
      model: 'scripted-7b',
      st: 'queued',
      text,
      sent: 0,
      conv: c,
      abort: new AbortController(),
    };
    c.reserved.set(r.msg, parent);
    c.runs.push(r);
    runs.set(r.id, r);
    return r;
  };
  const stop = (c, r) => {
    r.stopped = true;
    r.abort.abort();
    end(c, r, 'stopped', 'stopped');
  };

  /* ---- commands ---- */
  const own = (s, id) => {
    const c = conversations.get(id);
    if (c === undefined || c.owner !== s.user) throw new Fault(404, 'not found');
    return c;
  };
  const object = (c) => ({
    id: c.id,
    title: c.title,
    persona: c.persona,
    mode: c.mode,
    role: 'owner',
    offset: c.log.length,
    epoch: c.epoch,
    created: c.created,
    updated: c.updated,
    head: c.head,
  });
  const commands = {
    'conv.create'(s, q) {
      const known = q.cid && [...conversations.values()].find((c) => c.cid === q.cid && c.owner === s.user);
      if (known) return { conv: object(known) };
      const c = {
        id: makeId('c'),
        cid: q.cid,
        owner: s.user,
        title: q.title ?? '',
        persona: q.persona ?? personas[0].id,
        mode: 'ai',
        epoch: `${randomBytes(4).toString('hex')}.g1`,
        created: Date.now(),
        updated: Date.now(),
        log: [],
        messages: new Map(),
        reserved: new Map(),
        runs: [],
        cids: new Map(),
        read: new Map(),
        head: null,
      };
      conversations.set(c.id, c);
      return { conv: object(c) };
    },
    'conv.list'(s, q) {
      const all = [...conversations.values()]
        .filter(
          (c) =>
            c.owner === s.user &&
            c.log.length > 0 &&
            (!q.query ||
              `${c.title} ${pathOf(c)
                .map((m) => m.text)
                .join(' ')}`
                .toLowerCase()
                .includes(q.query.toLowerCase())),
        )
        .sort((a, b) => b.updated - a.updated);
      const from = q.before ? Number(q.before) : 0;
      const limit = q.limit ?? 50;
      return {
        items: all.slice(from, from + limit).map((c) => summaryOf(c, s.user)),
        ...(all.length > from + limit ? { next: String(from + limit) } : {}),
      };
    },
    'conv.open'(s, q) {
      const c = own(s, q.conv);
      const path = pathOf(c).filter((m) => q.before === undefined || m.offset < Number(q.before));
      const page = path.slice(-(q.limit ?? 50));
      return {
        conv: object(c),
        messages: page.map(({ t, ...m }) => ({ ...m, siblings: siblings(c, m) })),
        offset: c.log.length,
        epoch: c.epoch,
        ...(page.length < path.length ? { next: page[0].offset } : {}),
      };
    },
    'conv.update'(s, q) {
      const c = own(s, q.conv);
      if (q.title !== undefined && q.title !== c.title)
        append(c, { t: 'state', k: 'title', v: q.title, by: { kind: 'user', id: s.user } });
      return { conv: object(c) };
    },
    'conv.delete'(s, q) {
      const c = own(s, q.conv);
      conversations.delete(c.id);
      for (const other of sessions)
        if (other.channels.delete(`conv:${c.id}`))
          other.ws.send(
            JSON.stringify({ push: { channel: `conv:${c.id}`, unsubscribe: { code: 2000, reason: 'deleted' } } }),
          );
      push(`#${c.owner}`, { data: { t: 'conv.gone', conv: c.id } });
      return { conv: object(c) };
    },
    'chat.send'(s, q) {
      const c = own(s, q.conv);
      const known = c.cids.get(q.cid);
      if (known) return { ...known, status: 'duplicate' };
      const active = c.runs.length > 0;
      if (active && q.during_run === 'reject')
        return { status: 'refused', reason: { code: 'busy', message: 'An answer is being written.', retry_ms: 1000 } };
      if (c.runs.length >= 9)
        return { status: 'refused', reason: { code: 'busy', message: 'Too many wait.', retry_ms: 3000 } };
      if (active && q.during_run === 'cancel') for (const r of [...c.runs]) stop(c, r);
      const id = makeId('m');
      const parent = tip(c);
      const r = makeRun(c, id);
      const offset = append(c, {
        t: 'msg',
        id,
        parent,
        by: { kind: 'user', id: s.user, name: s.name },
        cid: q.cid,
        text: q.text,
        status: 'complete',
        answer: { run: r.id, msg: r.msg, persona: c.persona, model: r.model },
      });
      const outcome = { status: 'accepted', msg: id, run: r.id, offset, epoch: c.epoch };
      c.cids.set(q.cid, outcome);
      next(c);
      return outcome;
    },
    'msg.regenerate'(s, q) {
      const c = own(s, q.conv ?? [...conversations.values()].find((x) => x.messages.has(q.msg))?.id);
      const old = c.messages.get(q.msg);
      if (!old) throw new Fault(404, 'not found');
      const r = makeRun(c, old.parent, q.continue ? old.text : '');
      append(c, { t: 'state', k: 'head', v: old.parent, by: { kind: 'user', id: s.user } });
      const offset = append(c, {
        t: 'run',
        run: r.id,
        msg: r.msg,
        parent: old.parent,
        persona: c.persona,
        model: r.model,
        cause: q.continue ? 'continue' : 'regenerate',
        by: { kind: 'user', id: s.user },
      });
      next(c);
      return { status: 'accepted', msg: r.msg, run: r.id, offset, epoch: c.epoch };
    },
    'run.stop'(s, q) {
      const c = q.run ? runs.get(q.run)?.conv : own(s, q.conv);
      for (const r of c ? [...c.runs] : []) if (!q.run || r.id === q.run) stop(c, r);
      return { status: 'accepted' };
    },
    'run.get'(s, q) {
      const r = runs.get(q.run);
      if (r) return entry(r);
      for (const c of conversations.values())
        for (const m of c.messages.values()) if (m.run === q.run) return { msg: m };
      throw new Fault(404, 'not found');
    },
    'typing.set'(s, q) {
      tell(own(s, q.conv), { t: 'typing', u: s.user, on: q.on });
      return {};
    },
    'read.set'(s, q) {
      const c = own(s, q.conv);
      c.read.set(s.user, Math.max(c.read.get(s.user) ?? 0, q.offset));
      tell(c, { t: 'read', u: s.user, o: c.read.get(s.user) });
      inbox(c);
      return {};
    },
  };

  /* ---- the line ---- */
  const subscribeTo = (s, q) => {
    const c = own(s, q.channel.replace(/^conv:/, ''));
    s.channels.add(q.channel);
    const data = {
      as_of: c.log.length,
      mode: c.mode,
      title: c.title,
      typing: [],
      read: Object.fromEntries(c.read),
      runs: c.runs.map((r) => {
        flush(c, r);
        return entry(r);
      }),
    };
    const result = { recoverable: true, positioned: true, epoch: c.epoch, offset: c.log.length, data };
    if (q.recover && (q.epoch ?? '') === c.epoch && (q.offset ?? 0) <= c.log.length) {
      Object.assign(result, {
        was_recovering: true,
        recovered: true,
        offset: q.offset ?? 0,
        publications: c.log.slice(q.offset ?? 0).map((e, i) => ({ data: e, offset: (q.offset ?? 0) + i + 1 })),
      });
    } else if (q.recover) Object.assign(result, { was_recovering: true });
    return result;
  };
  const handle = (s, q) => {
    if (q.connect) {
      const known = users.get(q.connect.token ?? '');
      const user = known ?? { id: makeId('u'), token: `fake.${randomBytes(12).toString('hex')}` };
      users.set(user.token, user);
      s.user = user.id;
      s.channels.add(`#${s.user}`);
      return {
        connect: {
          client: randomBytes(8).toString('hex'),
          version: 'fake',
          ping: 25,
          pong: true,
          subs: { [`#${s.user}`]: { recoverable: true, epoch: 'i1', offset: 0 } },
          data: {
            kith: {
              protocol: 1,
              version: '0.1.0',
              user: s.user,
              guest: true,
              ...(known ? {} : { token: user.token }),
              limits: { text_bytes: 32768, parts: 16, file_bytes: 20971520 },
              personas,
            },
          },
        },
      };
    }
    if (q.subscribe) return { subscribe: subscribeTo(s, q.subscribe) };
    if (q.unsubscribe) {
      s.channels.delete(q.unsubscribe.channel);
      return { unsubscribe: {} };
    }
    if (q.rpc) {
      const command = commands[q.rpc.method];
      if (!command) throw new Fault(108, 'not available');
      return { rpc: { data: command(s, q.rpc.data ?? {}) } };
    }
    throw new Fault(107, 'bad request');
  };
  const onFrame = (s, frame) => {
    for (const text of frame.split('\n').filter((x) => x !== '')) {
      const q = JSON.parse(text);
      if (!q.id) continue;
      try {
        s.ws.send(JSON.stringify({ id: q.id, ...handle(s, q) }));
      } catch (e) {
        if (!(e instanceof Fault)) throw e;
        s.ws.send(
          JSON.stringify({
            id: q.id,
            error: { code: e.code, message: e.message, ...(e.temporary ? { temporary: true } : {}) },
          }),
        );
      }
    }
  };

  const manifest = () => JSON.parse(readFileSync(path.join(web, 'manifest.json'), 'utf8'));
  const server = http.createServer((req, res) => {
    const url = new URL(req.url, 'http://x');
    if (url.pathname === '/readyz') {
      res.writeHead(readyText === '' ? 200 : 503, { 'content-type': 'text/plain' }).end(readyText || 'ok');
      return;
    }
    const file = manifest().files.find((f) => f.path === url.pathname);
    if (!file) {
      res.writeHead(404).end();
      return;
    }
    const headers = {
      'content-type': file.type,
      'cache-control': file.cache,
      etag: file.etag,
      vary: 'accept-encoding',
      ...file.headers,
    };
    if (req.headers['if-none-match'] === file.etag) {
      res.writeHead(304, headers).end();
      return;
    }
    const gz = /\bgzip\b/.test(req.headers['accept-encoding'] ?? '');
    res.writeHead(200, gz ? { ...headers, 'content-encoding': 'gzip' } : headers);
    res.end(readFileSync(path.join(web, gz ? file.encodings.gzip : file.file)));
  });
  const sockets = new WebSocketServer({ server, path: '/connection/websocket' });
  sockets.on('connection', (ws) => {
    const s = { ws, user: '', channels: new Set() };
    sessions.add(s);
    const ping = setInterval(() => ws.send('{}'), 25_000);
    ws.on('message', (data) => onFrame(s, data.toString()));
    ws.on('close', () => {
      sessions.delete(s);
      clearInterval(ping);
    });
    ws.on('error', () => undefined);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    conversations,
    /** '' = ready; else the text that /readyz gives with 503. */
    ready(text) {
      readyText = text;
    },
    close() {
      for (const s of sessions) s.ws.terminate();
      server.closeAllConnections();
      server.close();
    },
  };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const option = (name, otherwise) => {
    const at = process.argv.indexOf(`--${name}`);
    return at > 0 ? process.argv[at + 1] : otherwise;
  };
  const { startUpstream } = await import('../e2e/upstream.mjs');
  const fake = await startFake({
    port: Number(option('port', '8081')),
    upstream: option('upstream') ?? (await startUpstream()).url,
  });
  console.log(`listening on ${fake.url}`);
}
