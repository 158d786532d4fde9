/** The line: lost and back, sent once and in order, refused in words. Checklist 3, 7, 10, 20. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { ended, say, stage } from './stage.mjs';

let s;
before(async () => {
  s = await stage();
});
after(() => s.close());
afterEach(() => s.clean());

const send = async (page, text) => {
  await page.locator('#say').fill(text);
  await page.locator('.go[type="submit"]').click();
};

test(
  'offline: a banner within a second, what is sent waits, and goes once and in order',
  { timeout: 120_000 },
  async () => {
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'Before the tunnel');
    await ended(page);
    v.line.down = true;
    const cut = Date.now();
    v.line.cut();
    await page.locator('.banner[role="alert"]').waitFor();
    const ms = Date.now() - cut;
    console.log(`# banner after ${ms} ms`);
    assert.ok(ms < 10_000);
    await send(page, 'In the tunnel');
    await send(page, 'Deeper in the tunnel');
    await page.locator('.pill.held').nth(1).waitFor();
    assert.equal(await page.locator('.turn.you[data-out="waiting"]').count(), 2);
    v.line.down = false;
    await page
      .getByRole('button', { name: 'Try now' })
      .click({ timeout: 3000 })
      .catch(() => undefined);
    await page.locator('.banner').waitFor({ state: 'detached' });
    await page.locator('.log').getByText('You wrote 4 words').waitFor();
    await ended(page);
    assert.deepEqual(await page.locator('.turn.you .pill').allInnerTexts(), [
      'Before the tunnel',
      'In the tunnel',
      'Deeper in the tunnel',
    ]);
    const sent = v.line.sent.filter((m) => m.rpc?.method === 'chat.send').map((m) => m.rpc.data.text);
    assert.deepEqual(sent, ['Before the tunnel', 'In the tunnel', 'Deeper in the tunnel']);
    await v.close();
  },
);

test(
  'a first message written without a line starts the conversation when it is back',
  { timeout: 120_000 },
  async () => {
    const v = await s.visitor();
    const page = await v.open();
    await page.locator('.welcome h1').waitFor();
    v.line.down = true;
    v.line.cut();
    await page.locator('.banner').waitFor();
    await send(page, 'Written on the train');
    await page.locator('.pill.held').waitFor();
    await page.reload();
    await page.getByText('Written on the train').waitFor();
    v.line.down = false;
    await page
      .getByRole('button', { name: 'Try now' })
      .click({ timeout: 3000 })
      .catch(() => undefined);
    await ended(page);
    assert.equal(await page.locator('.turn.you .pill').innerText(), 'Written on the train');
    await v.close();
  },
);

test('a send whose answer was lost, over a reload too, is one message and one run', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'Hello');
  await ended(page);
  const asked = s.up.requests.length;
  let lose = true;
  const ids = new Set();
  v.line.up = (m) => {
    if (m.rpc?.method === 'chat.send') ids.add(m.id);
    return m;
  };
  v.line.back = (m) => {
    if (!lose) return m;
    if (ids.has(m.id) || m.push) return undefined;
    return m;
  };
  await send(page, 'Only once, please');
  await page.locator('.turn.you[data-out="sending"]').waitFor();
  await page.waitForFunction((n) => n, true);
  while (s.up.requests.length === asked)
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
  lose = false;
  await page.reload();
  await page.locator('.log').getByText('You wrote 3 words').waitFor();
  assert.equal(await page.locator('.turn.you .pill').filter({ hasText: 'Only once, please' }).count(), 1);
  const cids = v.line.sent
    .filter((m) => m.rpc?.method === 'chat.send' && m.rpc.data.text === 'Only once, please')
    .map((m) => m.rpc.data.cid);
  assert.equal(new Set(cids).size, 1);
  assert.equal(s.up.requests.filter((r) => r.said === 'Only once, please').length, 1);
  await v.close();
});

const REFUSED = [
  ['rate_limited', 42_000, /a lot of messages/],
  ['quota_exceeded', 3_600_000, /allowance/],
  ['busy', 5000, /waiting for their answers/],
  ['overloaded', 5000, /very busy/],
  ['blocked', undefined, /against the rules/],
  ['too_long', undefined, /too long/],
  ['closed', undefined, /closed/],
];
for (const [code, retry_ms, words] of REFUSED) {
  test(`refused as ${code}: says what happened and what to do`, { timeout: 120_000 }, async () => {
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'Hello');
    await ended(page);
    v.line.up = (m, reply) => {
      if (m.rpc?.method !== 'chat.send') return m;
      reply({
        rpc: {
          data: { status: 'refused', reason: { code, message: 'server words', ...(retry_ms ? { retry_ms } : {}) } },
        },
      });
      return undefined;
    };
    await send(page, 'Will this go?');
    const note = page.locator('.turn.you .note');
    await note.waitFor();
    const text = await note.innerText();
    assert.match(text, words);
    assert.doesNotMatch(text, /server words/);
    if (retry_ms) {
      const first = await note.locator('.time').innerText();
      assert.match(first, /^\d+:\d\d(:\d\d)?$/);
      await page.waitForFunction((was) => document.querySelector('.note .time')?.textContent !== was, first);
    } else {
      assert.equal(await note.locator('.time').count(), 0);
      assert.ok(await note.evaluate((el) => el.classList.contains('bad')));
    }
    if (code === 'closed') await note.getByRole('button', { name: 'New conversation' }).click();
    else await note.getByRole('button', { name: /^Edit/ }).click();
    await page.waitForFunction(() => document.getElementById('say').value === 'Will this go?');
    if (code !== 'closed') assert.equal(await page.locator('.turn.you .note').count(), 0);
    await v.close();
  });
}

test('refused for a while goes by itself', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'Hello');
  await ended(page);
  let times = 0;
  v.line.up = (m, reply) => {
    if (m.rpc?.method !== 'chat.send' || times++ > 0) return m;
    reply({ rpc: { data: { status: 'refused', reason: { code: 'rate_limited', message: 'x', retry_ms: 300 } } } });
    return undefined;
  };
  await send(page, 'Patience brings roses');
  await page.locator('.log').getByText('You wrote 3 words').waitFor();
  assert.equal(await page.locator('.note').count(), 0);
  await v.close();
});

test('storage out of reach is said in its own words, and misuse offers Retry', { timeout: 120_000 }, async () => {
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'Hello');
  await ended(page);
  let code = 409;
  v.line.up = (m, reply) => {
    if (m.rpc?.method !== 'chat.send' || code === 0) return m;
    reply({ error: { code, message: 'x', ...(code === 503 ? { temporary: true } : {}) } });
    return undefined;
  };
  await send(page, 'Try me');
  await page.locator('.note').waitFor();
  assert.match(await page.locator('.note').innerText(), /Could not be sent/);
  assert.equal(await page.locator('p[role="alert"]').innerText(), 'A message could not be sent');
  code = 0;
  await page.getByRole('button', { name: 'Retry' }).click();
  await page.locator('.log').getByText('You wrote 2 words').waitFor();
  code = 503;
  await send(page, 'And me');
  await page.locator('.note').waitFor();
  assert.match(await page.locator('.note').innerText(), /stor/);
  await v.close();
});

test(
  'a draft is kept per conversation, over reload and switch, and is cleared in all tabs when sent',
  { timeout: 120_000 },
  async () => {
    const v = await s.visitor();
    const page = await v.open();
    await say(page, 'First talk');
    await ended(page);
    const one = new URL(page.url()).hash;
    await page.goto(`${s.server.url}/#`);
    await page.locator('.welcome h1').waitFor();
    await say(page, 'Second talk');
    await ended(page);
    await page.locator('#say').fill('draft of the second');
    await page.locator(`.days a[href="${one}"]`).click();
    await page.waitForFunction(() => document.getElementById('say').value === '');
    await page.locator('#say').fill('draft of the first');
    await page.reload();
    await page.waitForFunction(() => document.getElementById('say')?.value === 'draft of the first');
    await page.goBack();
    await page.waitForFunction(() => document.getElementById('say').value === 'draft of the second');
    const other = await v.open(one);
    await other.waitForFunction(() => document.getElementById('say').value === 'draft of the first');
    await page.locator(`.days a[href="${one}"]`).click();
    await page.waitForFunction(() => document.getElementById('say').value === 'draft of the first');
    await page.locator('.go[type="submit"]').click();
    await other.waitForFunction(() => document.getElementById('say').value === '');
    await v.close();
  },
);

test('20 cuts in one answer end in exactly the final text', { timeout: 120_000 }, async () => {
  const text = Array.from({ length: 200 }, (_, i) => `w${i}`).join(' ');
  s.up.script('Cut me often', [{ say: text, by: 5, every: 25 }]);
  const v = await s.visitor();
  const page = await v.open();
  await say(page, 'Cut me often');
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => {
      setTimeout(resolve, 150);
    });
    v.line.cut();
  }
  await page.locator('.turn.last[data-status="complete"]').waitFor({ timeout: 60_000 });
  assert.equal(await page.locator('.turn.last .text').innerText(), text);
  assert.equal(await page.locator('.turn').count(), 2);
  await v.close();
});
