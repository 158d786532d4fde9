/** The harness that end-to-end tests use is held against the test server, so that a red test there means the server. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestServer } from './server.js';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
let server: TestServer;

beforeAll(async () => {
  const changed = (path: string): number => statSync(here(path)).mtimeMs;
  const built = existsSync(here('../dist/index.js')) ? changed('../dist/index.js') : 0;
  const stale = readdirSync(here('../src')).some((f) => changed(`../src/${f}`) > built);
  if (stale)
    execFileSync(process.execPath, [here('../node_modules/typescript/bin/tsc'), '-p', here('../tsconfig.build.json')]);
  server = await new TestServer().start();
}, 60_000);
afterAll(() => server.stop());

function harness(scenario: unknown): Promise<Record<string, any>> {
  return new Promise((resolve, reject) => {
    const url = server.url.replace('ws:', 'http:').replace('/connection/websocket', '/');
    execFile(process.execPath, [here('harness.mjs'), url, JSON.stringify(scenario)], (e, stdout, stderr) => {
      if (stdout === '') reject(e ?? new Error(stderr));
      else resolve(JSON.parse(stdout));
    });
  });
}

it('cuts the line while an answer is made, and reports the final text and each event once', async () => {
  server.onSaid = (conv, run) => {
    let words = 0;
    const timer = setInterval(() => {
      if (++words <= 150) return server.write(conv, run, `word${words} `);
      clearInterval(timer);
      server.end(conv, run);
    }, 5);
  };
  const r = await harness({ steps: [{ send: 'one' }, { send: 'two' }], cuts: 8, cut_ms: [1, 20], seed: 3 });
  expect(r).toMatchObject({
    ok: true,
    cuts: 8,
    taken_back: 0,
    offsets: [1, 2, 3, 4],
    status: 'complete',
    outgoing: [],
  });
  expect(r.connects).toBeGreaterThan(4);
  expect(r.text).toBe(Array.from({ length: 150 }, (_, i) => `word${i + 1} `).join(''));
  expect(r.messages.map((m: { text: string }) => m.text)).toEqual(['one', r.text, 'two', r.text]);
}, 30_000);

it('stops, makes again, and says when it gave up', async () => {
  server.onSaid = (conv, run) => server.write(conv, run, 'something');
  const stopped = await harness({
    steps: [
      { send: 'one', wait: false },
      { stop: true, after_chars: 5 },
    ],
  });
  expect(stopped).toMatchObject({ ok: true, status: 'stopped', text: 'something' });
  const late = await harness({ text: 'one', timeout_ms: 700 });
  expect(late.ok).toBe(false);
  expect(late.error).toMatch(/^timeout/);
}, 30_000);
