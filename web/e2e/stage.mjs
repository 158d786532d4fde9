/**
 * What a test of the page plays on: a server, a scripted model behind it, and a browser.
 *
 *     KITH_URL       a server that runs already; its model's url must be KITH_UPSTREAM (http://127.0.0.1:9911/v1 if unset)
 *     KITH_BIN       a kith binary: started here, with a data directory of its own, and killed and restarted by tests
 *     (neither)      the small server of test/fake.mjs, over the built page
 *     KITH_CHROMIUM  the browser, /usr/bin/chromium if unset
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { startUpstream } from './upstream.mjs';

export const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
export const DESK = { viewport: { width: 1280, height: 800 } };

async function startBinary(bin, upstream) {
  const dir = mkdtempSync(path.join(tmpdir(), 'kith-page-'));
  const config = path.join(dir, 'kith.yaml');
  let child;
  const server = {
    url: '',
    async start(listen = '127.0.0.1:0') {
      writeFileSync(
        config,
        `listen: ${listen}\ndata_dir: ${path.join(dir, 'data')}\nauth:\n  guests: true\nmodels:\n  - name: default\n    url: ${upstream}\n    model: scripted\n`,
      );
      child = spawn(bin, ['serve', '-c', config], { stdio: ['ignore', 'inherit', 'pipe'] });
      server.url = await new Promise((resolve, reject) => {
        let heard = '';
        child.stderr.on('data', (part) => {
          heard += part;
          const found = /event=ready[^\n]*listen=(\S+)/.exec(heard);
          if (found) resolve(`http://${found[1]}`);
        });
        child.once('exit', (code) => reject(new Error(`kith ended with ${code}:\n${heard}`)));
      });
    },
    /** Ends it as a power cut would, and starts it again on the same port and data. */
    async crash() {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
      await server.start(new URL(server.url).host);
    },
    async close() {
      child.kill('SIGTERM');
      await once(child, 'exit');
      rmSync(dir, { recursive: true, force: true });
    },
  };
  await server.start();
  return server;
}

/** Lets a test hold, change and cut what passes between page and server. */
async function wire(context) {
  const live = new Set();
  const w = {
    /** Connections are refused while true. */
    down: false,
    /** (message, reply) => message to pass on, or undefined to hold it back. `reply` answers in the server's place. */
    up: (m) => m,
    /** (message) => message to pass on, or undefined. */
    back: (m) => m,
    sent: [],
    cut() {
      for (const ws of live) ws.close({ code: 1011, reason: 'cut' });
      live.clear();
    },
  };
  await context.routeWebSocket(/\/connection\/websocket/, (ws) => {
    if (w.down) {
      ws.close({ code: 1011, reason: 'down' });
      return;
    }
    live.add(ws);
    const server = ws.connectToServer();
    const each = (frame, f) =>
      frame
        .toString()
        .split('\n')
        .filter((x) => x !== '')
        .map((x) => f(JSON.parse(x)))
        .filter((x) => x !== undefined)
        .map((x) => JSON.stringify(x))
        .join('\n');
    ws.onMessage((frame) => {
      const passed = each(frame, (m) => {
        w.sent.push(m);
        return w.up(m, (answer) => ws.send(JSON.stringify({ id: m.id, ...answer })));
      });
      if (passed !== '') server.send(passed);
    });
    server.onMessage((frame) => {
      const passed = each(frame, (m) => w.back(m));
      if (passed !== '') ws.send(passed);
    });
    ws.onClose((code, reason) => {
      live.delete(ws);
      server.close({ code: code >= 3000 || code === 1000 ? code : 1000, reason });
    });
    server.onClose((code, reason) => {
      live.delete(ws);
      ws.close({ code: code >= 3000 || code === 1000 ? code : 1011, reason });
    });
  });
  return w;
}

export async function stage() {
  const external = process.env.KITH_URL;
  const port = external ? Number(new URL(process.env.KITH_UPSTREAM ?? 'http://127.0.0.1:9911/v1').port) : 0;
  const up = await startUpstream(port);
  let server;
  if (external) server = { url: external, close() {} };
  else if (process.env.KITH_BIN) server = await startBinary(process.env.KITH_BIN, up.url);
  else server = await (await import('../test/fake.mjs')).startFake({ upstream: up.url });
  const browser = await chromium.launch({
    executablePath: process.env.KITH_CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-default-apps',
      '--no-first-run',
    ],
  });
  const faults = [];

  /** A visitor of their own: a browser context whose every page is watched. */
  async function visitor(options = DESK) {
    const context = await browser.newContext({ locale: 'en-GB', ...options });
    const line = await wire(context);
    context.on('page', (page) => {
      page.on('pageerror', (e) => faults.push(`error: ${e.stack}`));
      page.on('console', (m) => {
        if (m.type() === 'error' && !/WebSocket connection|ERR_CONNECTION|503 \(/.test(m.text()))
          faults.push(`console: ${m.text()}`);
      });
      page.on('request', (r) => {
        const { origin, protocol } = new URL(r.url());
        if (origin !== server.url && protocol !== 'data:' && protocol !== 'blob:') faults.push(`request: ${r.url()}`);
      });
    });
    await context.addInitScript(() => {
      globalThis.violations = [];
      document.addEventListener('securitypolicyviolation', (e) =>
        globalThis.violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`),
      );
    });
    return {
      context,
      line,
      async open(hash = '') {
        const page = await context.newPage();
        await page.goto(`${server.url}/${hash}`);
        await page.locator('#say').waitFor();
        return page;
      },
      close: () => context.close(),
    };
  }

  return {
    server,
    up,
    browser,
    visitor,
    faults,
    /** Nothing went wrong beside what the test looks at. */
    clean() {
      assert.deepEqual(faults.splice(0), []);
    },
    async close() {
      await browser.close();
      await server.close();
      up.close();
    },
  };
}

/** Sends a text as a person does, and waits until the log has it. */
export async function say(page, text) {
  await page.locator('#say').fill(text);
  await page.locator('.go[type="submit"]').click();
  await page
    .locator('.turn.you:not([data-out]), .wait')
    .filter({ hasText: text.split('\n')[0].replace(/\*/g, '').slice(0, 60) })
    .last()
    .waitFor();
}

export const lastText = (page) => page.locator('.turn:not(.you) .text').last();
export const ended = (page, status = 'complete') => page.locator(`.turn.last[data-status="${status}"]`).waitFor();
