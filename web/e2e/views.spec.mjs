/** Every view at four widths, light and dark: axe finds nothing, nothing is cut off sideways; weight and policy. Checklist 30, 33, 34. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, afterEach, before, test } from 'node:test';
import { ended, say, stage } from './stage.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let s;
before(async () => {
  s = await stage();
});
after(() => s.close());
afterEach(() => s.clean());

const EVERYTHING =
  '# First\n\nWords with a [link](https://example.org/), `code`, $E = mc^2$.\n\n| Plant | Water |\n|---|--:|\n| Tomato | 2 l |\n\n```js\nconst answer = await fetch("/readyz"); // a line that is rather long, so that it scrolls\n```\n\n> quoted\n\n- one\n- two\n  1. deep\n\n- [x] done\n\n*She lays a hand on the brass housing, the way one quiets a horse.*\n\nשלום עולם';
const VIEWS = {
  async empty(page) {
    await page.goto(`${s.server.url}/#`);
    await page.locator('.welcome h1').waitFor();
  },
  async talk(page) {
    await say(page, 'Everything');
    await ended(page);
  },
  async details(page) {
    await page.getByLabel('About this answer').last().click();
  },
  async streaming(page) {
    await page.keyboard.press('Escape');
    await say(page, 'Hold on');
    await page.getByText('Still writing').waitFor();
    await say(page, 'And then?');
    await page.locator('.wait').waitFor();
  },
  async stopped(page) {
    await page.getByLabel('Stop', { exact: true }).click();
    await page.locator('.turn[data-status="stopped"]').waitFor();
  },
  async failed(page) {
    await page.goto(`${s.server.url}/#`);
    await page.locator('.welcome h1').waitFor();
    await say(page, 'Break off');
    await ended(page, 'failed');
  },
  async refused(page, v) {
    v.line.up = (m, reply) => {
      if (m.rpc?.method !== 'chat.send') return m;
      reply({
        rpc: {
          data: {
            status: 'refused',
            reason:
              m.rpc.data.text === 'bad'
                ? { code: 'blocked', message: 'x' }
                : { code: 'rate_limited', message: 'x', retry_ms: 60_000 },
          },
        },
      });
      return undefined;
    };
    for (const text of ['bad', 'soon']) {
      await page.locator('#say').fill(text);
      await page.locator('.go[type="submit"]').click();
      await page.locator('.turn.you').filter({ hasText: text }).locator('.note').waitFor();
    }
  },
  async menu(page) {
    await page.locator('.bar .has-menu > button').click();
    await page.locator('.menu').waitFor();
  },
  async rename(page) {
    await page.getByRole('menuitem', { name: 'Rename' }).click();
    await page.locator('dialog').waitFor();
  },
  async palette(page) {
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+k');
    await page.locator('.option').first().waitFor();
  },
  async settings(page) {
    await page.keyboard.press('Escape');
    await page.locator('.bar .has-menu > button').click();
    await page.getByRole('menuitem', { name: 'Settings' }).click();
    await page.locator('dialog.settings').waitFor();
  },
  async list(page) {
    await page.keyboard.press('Escape');
    const open = page.locator('.bar .open');
    if (await open.isVisible()) await open.click();
  },
  async offline(page, v) {
    await page.keyboard.press('Escape');
    v.line.down = true;
    v.line.cut();
    await page.locator('.banner').waitFor();
  },
};

for (const [width, height] of [
  [1280, 800],
  [768, 1024],
  [390, 844],
  [320, 640],
]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`axe finds nothing at ${width} px, ${colorScheme}`, { timeout: 120_000 }, async () => {
      s.up.script('Everything', [{ say: EVERYTHING }]);
      s.up.script('Hold on', [{ say: 'Still writing' }, { wait: 'never' }]);
      s.up.script('Break off', [{ say: 'Half an answer' }, { cut: true }]);
      const v = await s.visitor({
        viewport: { width, height },
        colorScheme,
        reducedMotion: 'reduce',
        ...(width < 500 ? { hasTouch: true, isMobile: true } : {}),
      });
      const page = await v.open();
      await page.evaluate(axe);
      const found = [];
      for (const [name, act] of Object.entries(VIEWS)) {
        await act(page, v);
        const result = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
        for (const violation of result.violations)
          found.push(
            `${name}: ${violation.id} at ${violation.nodes
              .slice(0, 3)
              .map((n) => `${n.target.join(' ')} (${n.any[0]?.message ?? ''})`)
              .join('; ')}`,
          );
        const wide = await page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
        );
        if (wide > 0) found.push(`${name}: ${wide} px too wide`);
        const out = await page.evaluate(() =>
          Array.from(
            document.querySelectorAll(
              '.pane .turn, .pane .note, .composer, .banner, .wait, .facts, .menu, dialog .card',
            ),
            (el) => [el.className, el.getBoundingClientRect()],
          )
            .filter(([, b]) => b.width > 0 && (b.left < -1 || b.right > innerWidth + 1))
            .map(([name]) => name),
        );
        if (out.length > 0) found.push(`${name}: out of the window: ${out}`);
      }
      assert.deepEqual(found, []);
      assert.deepEqual(await page.evaluate(() => globalThis.violations), []);
      await v.close();
    });
  }
}

test(
  'the policy is strict, nothing foreign is asked for, and the first view is light',
  { timeout: 120_000 },
  async () => {
    const v = await s.visitor();
    const page = await v.context.newPage();
    const requests = [];
    page.on('response', (r) => requests.push(r));
    await page.goto(`${s.server.url}/`);
    await page.locator('.welcome h1').waitFor();
    const csp = requests[0].headers()['content-security-policy'];
    assert.match(csp, /default-src 'none'/);
    assert.match(csp, /connect-src 'self'/);
    assert.match(csp, /frame-ancestors 'none'/);
    assert.match(csp, /base-uri 'none'/);
    assert.match(csp, /form-action 'none'/);
    assert.doesNotMatch(csp, /unsafe|\*|https?:/);
    assert.ok(requests.length <= 9, `${requests.length} and the socket`);
    let js = 0;
    for (const r of requests) {
      const type = r.headers()['content-type'] ?? '';
      if (type.startsWith('text/javascript')) {
        js += (await r.request().sizes()).responseBodySize;
        assert.match(r.headers()['cache-control'], /immutable/);
        assert.match(r.headers()['content-encoding'] ?? '', /gzip|br/);
      }
    }
    assert.ok(js > 10_000 && js <= 80 * 1024, `${js} bytes of script`);
    const again = await page.request.get(`${s.server.url}/`, {
      headers: { 'if-none-match': requests[0].headers().etag },
    });
    assert.equal(again.status(), 304);
    const paint = await page.evaluate(
      () => performance.getEntriesByType('paint').find((e) => e.name === 'first-contentful-paint')?.startTime,
    );
    console.log(`# first paint ${Math.round(paint)} ms, ${js} bytes of script, ${requests.length} requests`);
    assert.ok(paint < 3000);
    await v.close();
  },
);

test('code, maths and an answer load later under the same policy', { timeout: 120_000 }, async () => {
  s.up.script('Colours and maths', [{ say: '```js\nlet x = 1;\n```\n\n$x^2$' }]);
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'Colours and maths');
  await ended(page);
  await page.locator('pre .k').waitFor();
  await page.locator('.tex.set math').waitFor();
  assert.deepEqual(await page.evaluate(() => globalThis.violations), []);
  await v.close();
});

test('forced colours, more contrast and less motion leave everything in reach', { timeout: 120_000 }, async () => {
  for (const options of [{ forcedColors: 'active' }, { contrast: 'more' }, { reducedMotion: 'reduce' }]) {
    const v = await s.visitor({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await v.open();
    await say(page, 'Hello');
    await ended(page);
    if (options.reducedMotion)
      assert.equal(
        await page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue('--calm').trim()),
        '0s',
      );
    await v.close();
  }
});
