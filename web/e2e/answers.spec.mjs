/** Answers: durable, streamed, stopped, cut, continued; following and reading. Checklist 1, 2, 4, 5, 9, 11, 23, 36. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { ended, lastText, PHONE, say, stage } from './stage.mjs';

let s;
before(async () => {
  s = await stage();
});
after(() => s.close());
afterEach(() => s.clean());

/** Processor time in ms of each task of the page's main thread, longest first: what others do on the machine does not count. */
function mainTasks({ traceEvents }) {
  const main = new Set(
    traceEvents
      .filter((e) => e.name === 'thread_name' && e.args.name === 'CrRendererMain')
      .map((e) => `${e.pid} ${e.tid}`),
  );
  return traceEvents
    .filter((e) => e.name === 'RunTask' && e.tdur !== undefined && main.has(`${e.pid} ${e.tid}`))
    .map((e) => e.tdur / 1000)
    .sort((a, b) => b - a);
}

const paragraphs = (n, word = 'word') =>
  Array.from({ length: n }, (_, i) => `Paragraph ${i + 1}: ${`${word} `.repeat(30)}`).join('\n\n');

test('an answer streams, ends, and names its model in its details', { timeout: 120_000 }, async () => {
  s.up.script('Tell me of tides', [{ say: 'The **moon** pulls' }, { wait: 'tides' }, { say: ' at the sea.' }]);
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'Tell me of tides');
  await page.getByText('moon pulls').waitFor();
  assert.equal(await page.locator('.turn.last').getAttribute('aria-busy'), 'true');
  assert.equal(await page.locator('.turn.last .caret').count(), 1);
  s.up.open('tides');
  await ended(page);
  assert.equal(await lastText(page).innerText(), 'The moon pulls at the sea.');
  assert.equal(await page.locator('.caret').count(), 0);
  await page.getByLabel('About this answer').click();
  assert.match(await page.locator('.facts').innerText(), /Model/);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('.facts').count(), 0);
  assert.match(await page.title(), /^Tell me of tides · kith$/);
  await v.close();
});

test('a reload in mid-answer is back at the exact character, and Stop works', { timeout: 120_000 }, async () => {
  s.up.script('A long story', [{ say: 'Once upon a time there was' }, { wait: 'story' }, { say: ' an end.' }]);
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'A long story');
  await page.getByText('there was').waitFor();
  const before = await lastText(page).innerText();
  await page.reload({ waitUntil: 'commit' });
  const ms = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const look = () =>
          document.querySelector('.turn:not(.you) .text')?.textContent
            ? resolve(performance.now())
            : requestAnimationFrame(look);
        look();
      }),
  );
  console.log(`# text is back ${Math.round(ms)} ms after navigation began`);
  assert.ok(ms < 3000, `${ms} ms`);
  assert.equal(await lastText(page).innerText(), before);
  await page.getByLabel('Stop', { exact: true }).click();
  await ended(page, 'stopped');
  assert.equal(await lastText(page).innerText(), before);
  assert.equal(await page.getByLabel('Send').count(), 1);
  await v.close();
});

test(
  'Stop shows within a frame, keeps the text, and Continue and Again are offered',
  { timeout: 120_000 },
  async () => {
    s.up.script(
      'Count slowly',
      [{ say: 'One, two, three' }, { wait: 'never' }],
      [{ say: ', four.' }],
      [{ say: 'Anew.' }],
    );
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'Count slowly');
    await page.getByText('three').waitFor();
    const frames = await page.evaluate(
      () =>
        new Promise((resolve) => {
          document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
          let n = 0;
          const look = () => {
            n++;
            if (document.querySelector('.caret') === null && document.querySelector('.halt') === null) resolve(n);
            else requestAnimationFrame(look);
          };
          requestAnimationFrame(look);
        }),
    );
    assert.ok(frames <= 2, `${frames} frames`);
    await ended(page, 'stopped');
    assert.match(await lastText(page).innerText(), /One, two, three/);
    await page.getByRole('button', { name: 'Continue' }).click();
    await ended(page);
    assert.match(await lastText(page).innerText(), /One, two, three, four\./);
    await page.locator('.turn.last').getByRole('button', { name: 'Again' }).click();
    await page.locator('.log').getByText('Anew.').waitFor();
    await v.close();
  },
);

test(
  'an upstream that is cut leaves the partial text, in words, over a reload; Continue goes on',
  { timeout: 120_000 },
  async () => {
    s.up.script(
      'Explain crop rotation',
      [{ say: 'Every plant takes something and leaves' }, { cut: true }],
      [{ say: ' something behind.' }],
    );
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'Explain crop rotation');
    await ended(page, 'failed');
    await page.reload();
    await ended(page, 'failed');
    assert.match(await lastText(page).innerText(), /takes something and leaves/);
    const note = page.locator('.turn.last .note');
    assert.match(await note.innerText(), /All you have read is kept/);
    assert.match(await note.locator('code').innerText(), /^r_/);
    await note.getByRole('button', { name: 'Continue' }).click();
    await ended(page);
    assert.match(await lastText(page).innerText(), /leaves something behind\./);
    await v.close();
  },
);

test('each way the model fails has a sentence of its own, and Again', { timeout: 120_000 }, async () => {
  s.up.script('Fail with 500', [{ status: 500 }], [{ status: 500 }], [{ status: 500 }]);
  s.up.script('Fail with an event', [{ say: 'Half a' }, { error: true }]);
  s.up.script('Fail by a cut', [{ say: 'Half a' }, { cut: true }]);
  const v = await s.visitor();
  const page = await v.open();
  const seen = new Set();
  for (const text of ['Fail with 500', 'Fail with an event', 'Fail by a cut']) {
    await say(page, text);
    await page.locator('.turn.last[data-status="failed"]').waitFor({ timeout: 60_000 });
    assert.equal(await page.locator('.turn.last .note').getByRole('button', { name: 'Again' }).count(), 1);
    seen.add(await page.locator('.turn.last .note p').innerText());
  }
  assert.equal(seen.size, 3);
  await v.close();
});

test(
  'a crash in mid-answer ends it visibly, with the text that was shown',
  { skip: !process.env.KITH_BIN && 'needs KITH_BIN', timeout: 120_000 },
  async () => {
    s.up.script('Survive this', [{ say: paragraphs(6) }, { wait: 'never' }], [{ say: ' And on.' }]);
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'Survive this');
    await page.getByText('Paragraph 6').waitFor();
    await new Promise((resolve) => {
      setTimeout(resolve, 2500);
    });
    await s.server.crash();
    await page
      .locator('.turn.last[data-status="failed"], .turn.last[data-status="complete"]')
      .waitFor({ timeout: 30_000 });
    assert.match(await lastText(page).innerText(), /Paragraph 6/);
    s.faults.splice(0);
    await v.close();
  },
);

test(
  'two tabs and a phone show the same; stop, rename and delete in one show in all',
  { timeout: 120_000 },
  async () => {
    s.up.script('For all to see', [{ say: 'Everybody sees' }, { wait: 'all' }, { say: ' this.' }, { wait: 'never' }]);
    const v = await s.visitor();
    const one = await v.open();
    await say(one, 'For all to see');
    const hash = new URL(one.url()).hash;
    const two = await v.open(hash);
    await two.locator('.log').getByText('Everybody sees').waitFor();
    const at = (page) =>
      page.evaluate(
        () =>
          new Promise((resolve) => {
            const look = () =>
              document.body.textContent.includes('sees this.')
                ? resolve(performance.timeOrigin + performance.now())
                : requestAnimationFrame(look);
            look();
          }),
      );
    const times = [at(one), at(two)];
    s.up.open('all');
    const [a, b] = await Promise.all(times);
    console.log(`# both tabs within ${Math.abs(Math.round(a - b))} ms`);
    assert.ok(Math.abs(a - b) < 1000, `${a - b} ms apart`);
    await two.getByLabel('Stop', { exact: true }).click();
    await ended(one, 'stopped');
    await two.locator('.bar .has-menu .act').click();
    await two.getByRole('menuitem', { name: 'Rename' }).click();
    await two.locator('#new-name').fill('Seen by all');
    await two.getByRole('button', { name: 'Save' }).click();
    await one.locator('.days .name').filter({ hasText: 'Seen by all' }).waitFor();
    await one.locator('.who small').filter({ hasText: 'Seen by all' }).waitFor();
    await two.locator('.bar .has-menu .act').click();
    await two.getByRole('menuitem', { name: 'Delete' }).click();
    await two.getByRole('button', { name: 'Delete', exact: true }).click();
    await two.locator('.welcome h1').waitFor();
    await one.getByText('This conversation isn’t here.').waitFor();
    assert.equal(await one.locator('.days a').count(), 0);
    await v.close();
  },
);

test(
  'what another tab adds is unread in the list, with a mark while it is written; opening lands on the line',
  { timeout: 120_000 },
  async () => {
    s.up.script('Write in the background', [{ say: paragraphs(5) }, { wait: 'background' }, { say: '\n\nThe end.' }]);
    const v = await s.visitor();
    const one = await v.open();
    await say(one, 'Hello');
    await ended(one);
    const hash = new URL(one.url()).hash;
    const two = await v.open();
    await two.locator('.days a').waitFor();
    await one.locator('.days').waitFor();
    await say(one, 'Write in the background');
    await two.locator('.days .pulse').waitFor();
    await one.goto(`${s.server.url}/#`);
    await one.locator('.welcome h1').waitFor();
    s.up.open('background');
    await two.locator('.days .new').waitFor();
    await two.locator('.days .pulse').waitFor({ state: 'detached' });
    await two.waitForFunction(() => document.title.startsWith('(1) '));
    await two.locator(`.days a[href="${hash}"]`).click();
    await two.locator('.mark-line.fresh').waitFor();
    const box = await two.locator('.mark-line.fresh').boundingBox();
    assert.ok(box.y > 60 && box.y < 500, `line at ${box.y}`);
    await two.locator('.scroll').evaluate((el) => {
      el.scrollTop = el.scrollHeight;
    });
    await one.locator('.days .new').waitFor({ state: 'detached' });
    await v.close();
  },
);

test(
  'one tick of the wheel ends following; the button leads back; the end moves nothing',
  { timeout: 120_000 },
  async () => {
    s.up.script('A very long one', [
      { say: paragraphs(12) },
      { wait: 'more' },
      { say: `\n\n${paragraphs(6, 'late')}` },
      { wait: 'last' },
      { say: '\n\nThe end.' },
    ]);
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'A very long one');
    await page.getByText('Paragraph 12').waitFor();
    const scroller = page.locator('.scroll');
    const gap = () => scroller.evaluate((el) => el.scrollHeight - el.scrollTop - el.clientHeight);
    assert.ok((await gap()) <= 1, `follows: ${await gap()}`);
    await scroller.hover();
    await page.mouse.wheel(0, -60);
    await page.waitForFunction(() => {
      const el = document.querySelector('.scroll');
      return el.scrollHeight - el.scrollTop - el.clientHeight > 30;
    });
    const top = await scroller.evaluate((el) => el.scrollTop);
    s.up.open('more');
    await page.getByText('Paragraph 6: late').waitFor();
    assert.equal(await scroller.evaluate((el) => el.scrollTop), top);
    await page.getByRole('button', { name: /^Latest/ }).click();
    assert.ok((await gap()) <= 1);
    const mid = await page.getByText('Paragraph 6: late').boundingBox();
    await page.evaluate(() => {
      globalThis.moves = [];
      const el = document.querySelector('.scroll');
      let last = el.scrollTop;
      el.addEventListener('scroll', () => {
        globalThis.moves.push(el.scrollTop - last);
        last = el.scrollTop;
      });
    });
    s.up.open('last');
    await ended(page);
    const moves = await page.evaluate(() => globalThis.moves);
    assert.ok(
      moves.every((m) => m >= 0),
      `${moves}`,
    );
    assert.ok((await page.getByText('Paragraph 6: late').boundingBox()).y <= mid.y);
    await v.close();
  },
);

test('the end of an answer moves nothing', { timeout: 120_000 }, async () => {
  s.up.script('A short one', [{ say: paragraphs(3) }, { wait: 'short' }]);
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'A short one');
  await page.getByText('Paragraph 3').waitFor();
  const measure = () =>
    page.evaluate(() => ({
      tops: Array.from(document.querySelectorAll('.text > *'), (e) => e.getBoundingClientRect().top),
      height: document.querySelector('.scroll').scrollHeight,
    }));
  const before = await measure();
  await page.evaluate(() => {
    for (const el of document.querySelectorAll('.text, .text > *')) el.wasThere = true;
  });
  s.up.open('short');
  await ended(page);
  assert.deepEqual(await measure(), before);
  assert.ok(
    await page.evaluate(() => Array.from(document.querySelectorAll('.text, .text > *')).every((el) => el.wasThere)),
    'nothing was drawn anew',
  );
  await v.close();
});

test(
  'a 10,000-token answer causes no long task, and is painted at most once a frame',
  { timeout: 120_000 },
  async () => {
    const body = Array.from({ length: 120 }, (_, i) =>
      i % 10 === 3
        ? '```js\nconst a = 1; // some code\nfunction f(x) { return x * 2; }\n```'
        : i % 10 === 7
          ? `- one thing\n- another **thing**\n- a third with \`code\``
          : `Paragraph ${i}: ${'some words and **more** of them, '.repeat(9)}`,
    ).join('\n\n');
    s.up.script('Ten thousand tokens', [{ say: body, by: 4, every: 0 }]);
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'Hello first');
    await ended(page);
    await page.evaluate(() => {
      globalThis.frames = 0;
      globalThis.writes = 0;
      const count = () => {
        globalThis.frames++;
        requestAnimationFrame(count);
      };
      requestAnimationFrame(count);
      let inFrame = -1;
      new MutationObserver(() => {
        if (inFrame === globalThis.frames) return;
        inFrame = globalThis.frames;
        globalThis.writes++;
      }).observe(document.querySelector('.scroll'), { subtree: true, childList: true, characterData: true });
    });
    await s.browser.startTracing(page, { categories: ['toplevel', 'disabled-by-default-devtools.timeline'] });
    await say(page, 'Ten thousand tokens');
    await page.locator('.turn.last[data-status="complete"]').waitFor({ timeout: 120_000 });
    const tasks = mainTasks(JSON.parse((await s.browser.stopTracing()).toString()));
    const { frames, writes } = await page.evaluate(() => ({ frames: globalThis.frames, writes: globalThis.writes }));
    console.log(
      `# ${body.length} characters, ${frames} frames, ${writes} with changes; of ${tasks.length} tasks the longest took ${tasks
        .slice(0, 5)
        .map((ms) => ms.toFixed(1))
        .join(', ')} ms of processor time`,
    );
    assert.ok(writes <= frames);
    assert.ok(tasks.length > 100 && tasks[0] < 500, `${tasks.slice(0, 5)}`);
    assert.equal(await lastText(page).evaluate((el) => el.children.length), 120);
    await v.close();
  },
);

test(
  'an empty page greets; a missing conversation says so; opening is never blank for long',
  { timeout: 120_000 },
  async () => {
    const v = await s.visitor();
    const page = await v.open();
    await page.locator('.welcome h1').waitFor();
    assert.ok((await page.locator('.ideas button').count()) <= 4);
    await page.goto(`${s.server.url}/#c_doesnotexist`);
    await page.getByText('This conversation isn’t here.').waitFor();
    await page.goto(`${s.server.url}/#`);
    await say(page, 'Something to come back to');
    await ended(page);
    v.line.back = (m) => (m.rpc?.data?.messages ? undefined : m);
    await page.reload();
    await page.locator('.skeleton').waitFor({ timeout: 5000 });
    await v.close();
  },
);

test('while no model can answer, the message waits visibly', { timeout: 120_000 }, async () => {
  s.up.script('Is anybody there?', [{ wait: 'never' }]);
  const v = await s.visitor();
  v.line.back = (m) =>
    m.push?.pub?.data?.t === 'st' ? { push: { ...m.push, pub: { data: { ...m.push.pub.data, st: 'queued' } } } } : m;
  const page = await v.open();
  await page.route('**/readyz', (r) => r.fulfill({ status: 503, body: 'loading' }));
  await say(page, 'Is anybody there?');
  await page.getByText('The model is still being loaded.').waitFor();
  await v.close();
});

test(
  'what is sent during an answer waits in the dock with its place, and can be called off',
  { timeout: 120_000 },
  async () => {
    s.up.script('First thing', [{ say: 'Working' }, { wait: 'first' }]);
    const v = await s.visitor(PHONE);
    const page = await v.open();
    await say(page, 'First thing');
    await page.getByText('Working').waitFor();
    await say(page, 'Second thing');
    await say(page, 'Third thing');
    await page.locator('.wait').nth(1).waitFor();
    assert.deepEqual(await page.locator('.wait .place').allInnerTexts(), ['Next', '2nd']);
    await page.locator('.wait').nth(1).getByRole('button').click();
    await page.locator('.wait').nth(1).waitFor({ state: 'detached' });
    s.up.open('first');
    await page.locator('.waits').waitFor({ state: 'detached' });
    await page.locator('.log').getByText('You wrote 2 words').waitFor();
    await v.close();
  },
);

test('earlier messages come above, and what is in view stays within a pixel', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  for (let i = 1; i <= 30; i++) {
    await page.locator('#say').fill(`Number ${i} of thirty`);
    await page.keyboard.press('Enter');
    await page
      .locator('.turn.you')
      .filter({ hasText: `Number ${i} of thirty` })
      .waitFor();
    await ended(page);
  }
  await page.reload();
  await page.locator('.turn.you').filter({ hasText: 'Number 30 of thirty' }).waitFor();
  await page.locator('.older').waitFor();
  await page.locator('.scroll').evaluate((el) => {
    el.scrollTop = 0;
  });
  const shown = await page.locator('.turn').count();
  assert.ok(shown < 60, `${shown}`);
  console.log(`# ${shown} shown of 60`);
  const top = (n) =>
    page
      .locator('.turn')
      .nth(n)
      .evaluate((el) => el.getBoundingClientRect().top);
  const before = await top(0);
  await page.getByRole('button', { name: 'Earlier messages' }).click();
  await page.waitForFunction((n) => document.querySelectorAll('.turn').length > n, shown);
  const more = (await page.locator('.turn').count()) - shown;
  await page.evaluate(
    () =>
      new Promise((resolve) => {
        requestAnimationFrame(() => requestAnimationFrame(resolve));
      }),
  );
  const moved = Math.abs((await top(more)) - before);
  assert.ok(moved <= 1, `${moved} px`);
  await v.close();
});
