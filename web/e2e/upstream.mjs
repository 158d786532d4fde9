/**
 * A scripted model: an OpenAI-compatible server whose answers a test writes beforehand, step by step. Any server whose
 * model `url` is `<base>/v1` can be tested with it.
 *
 *     const up = await startUpstream();
 *     up.script('Tell me of tides', [{ say: 'The moon ' }, { wait: 'gate' }, { say: 'pulls.' }]);
 *     up.open('gate');
 *
 * Steps: {say, by?, every?} text in pieces of `by` characters, one each `every` ms; {wait} until the gate of that name
 * is opened; {cut} breaks the connection; {status} answers with that HTTP status at once; {hang} says nothing more;
 * {error} sends an error event; {finish} the finish_reason (default "stop"). The script of a request is found by the
 * last user message; a text nobody has scripted is answered by one plain sentence.
 */
import http from 'node:http';
import { once } from 'node:events';

export async function startUpstream(port = 0) {
  const scripts = new Map();
  const gates = new Map();
  const requests = [];

  const gate = (name) => {
    if (!gates.has(name)) {
      let open;
      const passed = new Promise((resolve) => {
        open = resolve;
      });
      gates.set(name, { passed, open });
    }
    return gates.get(name);
  };
  const pause = (ms) =>
    new Promise((resolve) => {
      setTimeout(resolve, ms);
    });

  async function answer(req, res) {
    let body = '';
    for await (const part of req) body += part;
    const wanted = JSON.parse(body);
    const plain = (m) =>
      typeof m.content === 'string' ? m.content : (m.content ?? []).map((c) => c.text ?? '').join('');
    const texts = (wanted.messages ?? []).filter((m) => m.role === 'user').map(plain);
    /* A server that is to go on with an answer may say so in words of its own, behind the question. */
    const whole = ((/^Go on exactly where/.test(texts.at(-1) ?? '') ? texts.at(-2) : texts.at(-1)) ?? '').trim();
    /* Questions that were left without an answer may arrive as one. */
    const said = scripts.has(whole) ? whole : whole.split('\n\n').at(-1);
    const list = scripts.get(said);
    const steps = (list && list.length > 1 ? list.shift() : list?.[0]) ?? [
      { say: `You wrote ${said.trim().split(/\s+/).length} words. I have read every one of them.` },
    ];
    requests.push({ said, messages: wanted.messages, model: wanted.model });
    if (steps[0]?.status) {
      res.writeHead(steps[0].status, { 'content-type': 'application/json' });
      res.end(JSON.stringify({ error: { message: 'scripted', type: 'server_error' } }));
      return;
    }
    res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    res.flushHeaders();
    let gone = false;
    let tokens = 0;
    res.on('close', () => {
      gone = true;
    });
    const send = (choice) =>
      res.write(
        `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: wanted.model, choices: [{ index: 0, ...choice }] })}\n\n`,
      );
    send({ delta: { role: 'assistant', content: '' }, finish_reason: null });
    let finish = 'stop';
    for (const step of steps) {
      if (gone) return;
      if (step.say !== undefined) {
        const text = [...step.say];
        const by = step.by ?? text.length;
        for (let at = 0; at < text.length && !gone; at += by) {
          send({ delta: { content: text.slice(at, at + by).join('') }, finish_reason: null });
          tokens++;
          if (step.every !== undefined) await pause(step.every);
        }
      }
      if (step.wait !== undefined) await gate(step.wait).passed;
      if (step.cut) {
        res.socket.end();
        return;
      }
      if (step.error) {
        res.write(`data: ${JSON.stringify({ error: { message: 'scripted', type: 'server_error' } })}\n\n`);
        res.end();
        return;
      }
      if (step.hang) {
        await once(res, 'close');
        return;
      }
      if (step.finish !== undefined) finish = step.finish;
    }
    send({ delta: {}, finish_reason: finish });
    res.write(
      `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: wanted.model, choices: [], usage: { prompt_tokens: 41, completion_tokens: tokens, total_tokens: 41 + tokens } })}\n\n`,
    );
    res.end('data: [DONE]\n\n');
  }

  const server = http.createServer((req, res) => {
    if (req.url === '/v1/chat/completions' && req.method === 'POST') {
      answer(req, res).catch(() => res.destroy());
      return;
    }
    if (req.url === '/v1/models') {
      res.writeHead(200, { 'content-type': 'application/json' });
      res.end(JSON.stringify({ object: 'list', data: [{ id: 'scripted', object: 'model' }] }));
      return;
    }
    res.writeHead(404).end();
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}/v1`,
    requests,
    /** Several scripts for one text are used one after the other; the last one stays. */
    script(text, ...list) {
      scripts.set(text.trim(), list);
    },
    open(name) {
      gate(name).open();
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}
