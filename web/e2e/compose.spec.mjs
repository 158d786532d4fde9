/** Writing, keys, and who listens instead of looks. Checklist 19, 21 (growth), 31, 32. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { ended, PHONE, say, stage } from './stage.mjs';

let s;
before(async () => {
  s = await stage();
});
after(() => s.close());
afterEach(() => s.clean());

const value = (page) => page.locator('#say').inputValue();

test('Enter sends, Shift+Enter breaks, and neither while a word is being composed', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  await page.locator('#say').focus();
  await page.keyboard.type('one');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('two');
  assert.equal(await value(page), 'one\ntwo');
  await page
    .locator('#say')
    .evaluate((el) =>
      el.dispatchEvent(
        new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }),
      ),
    );
  await page
    .locator('#say')
    .evaluate((el) =>
      el.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', keyCode: 229, bubbles: true, cancelable: true })),
    );
  assert.equal(await value(page), 'one\ntwo');
  await page.keyboard.press('Enter');
  await ended(page);
  assert.equal(await value(page), '');
  assert.equal(await page.locator('.turn.you .pill').innerText(), 'one\ntwo');
  await v.close();
});

test('a setting makes Ctrl+Enter send, here and in other tabs', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  await page.getByLabel('Settings').click();
  await page.getByText('Ctrl+Enter sends', { exact: true }).click();
  await page.keyboard.press('Escape');
  await page.locator('#say').fill('one');
  await page.locator('#say').press('Enter');
  assert.equal(await value(page), 'one\n');
  await page.locator('#say').press('Control+Enter');
  await ended(page);
  const other = await v.open();
  await other.locator('#say').fill('one');
  await other.locator('#say').press('Enter');
  assert.equal(await value(other), 'one\n');
  await v.close();
});

test('on touch Enter breaks', { timeout: 120_000 }, async () => {
  const v = await s.visitor(PHONE);
  const page = await v.open();
  await page.locator('#say').fill('one');
  await page.locator('#say').press('Enter');
  assert.equal(await value(page), 'one\n');
  await v.close();
});

test('the composer grows to 40 % of the height, then scrolls', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'Hello');
  const height = () => page.locator('#say').evaluate((el) => el.getBoundingClientRect().height);
  const low = await height();
  await page.locator('#say').fill('a\nb\nc\nd');
  assert.ok((await height()) > low * 2);
  await page.locator('#say').fill('line\n'.repeat(80));
  assert.ok((await height()) <= 800 * 0.4 + 1, `${await height()}`);
  assert.ok(await page.locator('#say').evaluate((el) => el.scrollHeight > el.clientHeight));
  await v.close();
});

test('a text over the limit is not sent, and says by how much', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  await page.locator('.welcome h1').waitFor();
  await page.locator('#say').fill('x'.repeat(32768 + 12));
  await page.getByText('12 characters too long').waitFor();
  await page.locator('#say').press('Enter');
  assert.equal((await value(page)).length, 32768 + 12);
  await v.close();
});

test(
  'everything by keyboard: skip link, palette, sheet, menu, dialogs give focus back',
  { timeout: 120_000 },
  async () => {
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'About otters');
    await ended(page);
    await page.locator('.brand').click({ position: { x: 60, y: 20 } });
    await page.keyboard.press('Shift+Tab');
    assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'say');

    await page.keyboard.press('Control+k');
    await page.locator('.palette input').waitFor();
    await page.keyboard.type('dark');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.documentElement.dataset.theme === 'dark');
    await page.waitForFunction(() => document.activeElement.id === 'say');
    await page.keyboard.press('Control+k');
    await page.locator('.palette input').waitFor();
    await page.keyboard.type('new');
    await page.keyboard.press('Enter');
    await page.locator('.welcome h1').waitFor();
    await page.keyboard.press('Control+k');
    await page.locator('.palette input').waitFor();
    await page.keyboard.type('otter');
    await page.keyboard.press('Enter');
    await page.locator('.log').getByText('You wrote 2 words').waitFor();

    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('?');
    await page.locator('dialog.keys').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
    await page.keyboard.press('/');
    await page.waitForFunction(() => document.activeElement.id === 'say');

    const more = page.locator('.bar .has-menu > button');
    await more.focus();
    await page.keyboard.press('Enter');
    await page.getByRole('menuitem', { name: 'Rename' }).waitFor();
    await page.keyboard.press('ArrowDown');
    await page.waitForFunction(() => document.activeElement.textContent === 'Rename');
    await page.keyboard.press('Enter');
    await page.locator('#new-name').waitFor();
    await page.waitForFunction(() => document.activeElement.id === 'new-name');
    await page.keyboard.type('All about otters');
    await page.keyboard.press('Enter');
    await page.locator('.who small').filter({ hasText: 'All about otters' }).waitFor();
    await page.waitForFunction(() => document.activeElement.getAttribute('aria-label') === 'Conversation menu');

    await page.keyboard.press('Control+Shift+O');
    await page.locator('.welcome h1').waitFor();
    await page.keyboard.press('Alt+ArrowDown');
    await page.locator('.log').getByText('You wrote 2 words').waitFor();
    await v.close();
  },
);

test('focus is never lost while tabbing through the page', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'Hello');
  await ended(page);
  await page.evaluate(() => document.activeElement.blur());
  for (let i = 0; i < 24; i++) {
    await page.keyboard.press('Tab');
    const seen = await page.evaluate(() => {
      const el = document.activeElement;
      if (el === document.body) return 'body';
      const box = el.getBoundingClientRect();
      return box.width > 0 && getComputedStyle(el).visibility === 'visible' ? '' : el.outerHTML.slice(0, 120);
    });
    if (seen === 'body') break;
    assert.equal(seen, '');
  }
  await v.close();
});

test(
  'on phones the list is a drawer: the rest is inert, Esc closes it, focus comes back',
  { timeout: 120_000 },
  async () => {
    const v = await s.visitor(PHONE);
    const page = await v.open();
    await page.locator('.bar .open').click();
    await page.locator('.side').waitFor();
    assert.ok(await page.locator('main').evaluate((el) => el.inert));
    await page.waitForFunction(() => document.activeElement.getAttribute('aria-label') === 'Close the list');
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => !document.querySelector('main').inert);
    await page.waitForFunction(() => document.activeElement?.classList.contains('open'));
    await v.close();
  },
);

test(
  'those who listen: a log that is not live, turns with headings, one polite region',
  { timeout: 120_000 },
  async () => {
    s.up.script('Speak up', [{ say: 'I am speaking' }, { wait: 'speak' }, { say: ' now.' }]);
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'Speak up');
    await page.getByText('I am speaking').waitFor();
    const log = page.locator('[role="log"]');
    assert.equal(await log.getAttribute('aria-live'), 'off');
    assert.equal(await page.locator('main > [role="status"]').innerText(), 'Kit is answering');
    s.up.open('speak');
    await ended(page);
    await page.waitForFunction(() => document.querySelector('main > [role="status"]').textContent === 'Answer ready');
    assert.match(await log.ariaSnapshot(), /heading "You, \d+:\d\d" \[level=2\]/);
    assert.equal(await page.locator('article').count(), 2);
    assert.equal(await page.locator('article h2').count(), 2);
    await v.close();
  },
);

test('targets are at least 24 px, on touch 44', { timeout: 120_000 }, async () => {
  for (const [options, least] of [
    [undefined, 24],
    [PHONE, 44],
  ]) {
    const v = await s.visitor(options);
    const page = await v.open();
    s.up.script('Show a table and code', [{ say: '| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nlet x = 1;\n```' }]);
    await say(page, 'Show a table and code');
    await ended(page);
    await page.mouse.move(10, 400);
    const small = await page.evaluate(
      (min) =>
        Array.from(document.querySelectorAll('button, a[href], summary'), (el) => ({
          el,
          box: el.getBoundingClientRect(),
        }))
          .filter(
            ({ el, box }) =>
              box.width > 0 &&
              !el.classList.contains('skip') &&
              !el.closest('.text p, .text li') &&
              (box.width < min || box.height < min),
          )
          .map(({ el, box }) => `${el.className || el.tagName} ${box.width}x${box.height}`),
      least,
    );
    assert.deepEqual(small, []);
    await v.close();
  }
});

test('copying: an answer as it was written, code as it is', { timeout: 120_000 }, async () => {
  s.up.script('Give me code', [{ say: 'Some **code**:\n\n```js\nlet x = 1;\n```' }]);
  const v = await s.visitor();
  await v.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const page = await v.open();
  await say(page, 'Give me code');
  await ended(page);
  await page.locator('.box').getByRole('button', { name: 'Copy code' }).click();
  await page.waitForFunction(async () => (await navigator.clipboard.readText()) === 'let x = 1;');
  await page.locator('.turn.last .acts').getByRole('button', { name: 'Copy' }).click();
  await page.waitForFunction(async () => (await navigator.clipboard.readText()).startsWith('Some **code**'));
  const wrap = page.getByRole('button', { name: 'Wrap lines' });
  await wrap.click();
  assert.equal(await wrap.getAttribute('aria-pressed'), 'true');
  await v.close();
});

test('a theme is kept, and there before the first paint', { timeout: 120_000 }, async () => {
  const v = await s.visitor({ viewport: { width: 1280, height: 800 }, colorScheme: 'light' });
  const page = await v.open();
  await page.getByLabel('Settings').click();
  await page.getByText('Dark', { exact: true }).click();
  await page.keyboard.press('Escape');
  await page.reload({ waitUntil: 'commit' });
  const first = await page.evaluate(
    () =>
      new Promise((resolve) => {
        requestAnimationFrame(() => {
          resolve(getComputedStyle(document.body ?? document.documentElement).colorScheme);
        });
      }),
  );
  assert.equal(first, 'dark');
  await v.close();
});
