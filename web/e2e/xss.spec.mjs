/** No message becomes more than text (checklist 17): a corpus, whole and split at every character, in the real browser under the page's policy. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import http from 'node:http';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { build } from 'vite';
import { CASES } from './xss-cases.mjs';

let browser;
let server;
let page;
const foreign = [];

before(async () => {
  const here = (p) => fileURLToPath(new URL(p, import.meta.url));
  const built = await build({
    root: here('..'),
    configFile: here('../vite.config.ts'),
    logLevel: 'error',
    build: {
      write: false,
      target: 'es2022',
      modulePreload: false,
      rolldownOptions: { input: here('./xss-page.ts'), output: { codeSplitting: false, format: 'iife' } },
    },
  });
  const code = (Array.isArray(built) ? built[0] : built).output[0].code;
  const start =
    'globalThis.fires=0;globalThis.fired=()=>{globalThis.fires++};globalThis.alert=globalThis.fired;globalThis.violations=[];document.addEventListener("securitypolicyviolation",e=>violations.push(e.violatedDirective+" "+e.blockedURI+" "+e.sample));';
  const sha = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  const csp = `default-src 'none'; script-src ${sha(start)} ${sha(code)}; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'`;
  server = http.createServer((req, res) => {
    res.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': csp });
    res.end(
      `<!doctype html><title>x</title><link rel="icon" href="data:,"><body><script>${start}</script><script>${code}</script>`,
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  browser = await chromium.launch({
    executablePath: process.env.KITH_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
  page = await browser.newPage();
  const origin = `http://127.0.0.1:${server.address().port}`;
  page.on('request', (r) => {
    if (!r.url().startsWith(origin) && !r.url().startsWith('data:,') && !r.url().startsWith('blob:'))
      foreign.push(r.url());
  });
  page.on('dialog', (d) => {
    foreign.push(`dialog ${d.message()}`);
    void d.dismiss();
  });
  await page.goto(origin);
  await page.evaluate(() => globalThis.ready());
});
after(async () => {
  await browser?.close();
  server?.close();
});

test('there are at least 300 cases, all different', () => {
  assert.ok(new Set(CASES).size >= 300, `${new Set(CASES).size}`);
});

test('no case becomes more than text, whole or split at any character', async () => {
  const bad = [];
  for (let at = 0; at < CASES.length; at += 20) {
    bad.push(
      ...(await page.evaluate(
        (cases) => cases.map((text) => [text, globalThis.check(text)]).filter(([, found]) => found.length > 0),
        CASES.slice(at, at + 20),
      )),
    );
  }
  assert.deepEqual(bad, []);
  assert.equal(await page.evaluate(() => globalThis.fires), 0);
});

test('all of them in one message, streamed', async () => {
  const found = await page.evaluate((text) => globalThis.check(text), CASES.slice(0, 60).join('\n\n').slice(0, 2500));
  assert.deepEqual(found, []);
});

test('the policy was never needed, and nothing foreign was asked for', async () => {
  assert.deepEqual(await page.evaluate(() => globalThis.violations), []);
  assert.deepEqual(foreign, []);
  assert.equal(await page.evaluate(() => globalThis.fires), 0);
});
