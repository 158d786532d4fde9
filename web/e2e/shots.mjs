/** Pictures of the page in its states, at four widths, light and dark: node e2e/shots.mjs DIR [state ...] */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { ended, say, stage } from './stage.mjs';

const dir = process.argv[2] ?? 'shots';
const only = process.argv.slice(3);
mkdirSync(dir, { recursive: true });
const WIDTHS = [
  [1280, 800],
  [768, 1024],
  [390, 844],
  [320, 640],
];

export const TALK = [
  [
    'Three tomatoes, a courgette and a pot of basil on a balcony facing south. How often do they want water in July?',
    'Less often than most people think, but deeper. In full sun a pot loses water through its sides as well as its leaves, so its size matters as much as the plant.\n\n| Plant | Pot | Water | It is thirsty when |\n|---|---|---|---|\n| **Tomato** | 15 l | 2 l each morning | lower leaves curl before noon |\n| **Courgette** | 30 l | 3 l every other day | leaves hang in the evening, too |\n| **Basil** | 3 l | a cup, from below | the pot feels light |\n\nThree habits make the difference:\n\n- **Water early,** before nine; evening water invites mildew.\n- **Mulch with straw.** Two centimetres save about a third.\n- **Trust your finger.** Dry to the second knuckle means now; damp means tomorrow.',
  ],
  [
    'My sensor writes soil.csv every hour. A little script that says which pots are dry, please?',
    'This takes the newest reading of each pot and holds it against what that plant can bear.\n\n```python\nimport csv\n\nBEARS = {"tomato": 35, "courgette": 40, "basil": 30}  # percent\n\nwith open("soil.csv", newline="") as file:\n    newest = {row["pot"]: row for row in csv.DictReader(file)}\n\nfor pot, row in sorted(newest.items()):\n    if float(row["moisture"]) < BEARS[row["plant"]]:\n        print(f"{pot} is dry: {row[\'moisture\']} %, since {row[\'time\']}")\n```\n\nRun it with `python3 dry.py`. No news is good news: it prints nothing when all are well.',
  ],
];
const STORY = [
  '*I catch my breath.* I wanted to see the lamp before the fog comes in. Does it still turn by clockwork?',
  '*She lays a hand on the brass housing, the way one quiets a horse.*\n\n“By clockwork, yes, and by stubbornness. A weight of eighty kilos sinks down the middle of the tower, and every four hours somebody winds it up again. Tonight that is me.”\n\n*Outside, the horizon has gone. The first grey thread of it slides over the gallery',
];
const LONG =
  'The answer, with everything in it:\n\n# A first heading\n\nSome words with a [link](https://example.org/), `inline code`, and maths $E = mc^2$ in a line.\n\n$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$\n\n## A second heading\n\n> To be, or not to be: that is the question, and it is a long one, so that it breaks over more than a single line.\n\n1. First\n2. Second, with code:\n\n   ```js\n   const answer = await fetch("/readyz"); // a line that is rather long, so that it must scroll inside its box\n   ```\n\n3. Third\n   - nested\n   - deeper\n\n- [x] done\n- [ ] open\n\n---\n\n### A third\n\nשלום עולם, זה טקסט מימין לשמאל.\n\nEnd of it.';

const s = await stage();
for (const [q, a] of TALK) s.up.script(q, [{ say: a }]);
s.up.script(STORY[0], [{ say: STORY[1] }, { wait: 'never' }]);
s.up.script('Show me everything', [{ say: LONG }]);
s.up.script('Explain crop rotation to me as if my balcony were a very small farm.', [
  {
    say: 'Gladly. Every plant takes something out of the soil and leaves something behind, a little like guests in a holiday house.\n\n### The three guests\n\n1. **The hungry ones** empty the larder: tomatoes, courgettes, cabbages.\n2. **The modest ones** take what is there: carrots, onions, salads.\n3. **The generous ones** refill it: beans and peas, whose roots bind nitrogen from the',
  },
  { cut: true },
]);
s.up.script('A name for the boat, please', [{ say: '“Patience” is taken, alas. “Second Wind” is not.' }]);
s.up.script('Night train to Lisbon', [{ say: 'Change at Hendaye, 40 minutes.' }]);

async function fill(v, texts) {
  const page = await v.open();
  for (const text of texts) {
    await page.goto(`${s.server.url}/#`);
    await page.locator('.welcome').waitFor();
    await say(page, text);
    await ended(page);
  }
  return page;
}

const STATES = {
  async empty(page) {
    await page.goto(`${s.server.url}/#`);
    await page.locator('.welcome h1').waitFor();
  },
  async talk(page) {
    for (const [q] of TALK) {
      await say(page, q);
      await ended(page);
    }
  },
  async everything(page) {
    await say(page, 'Show me everything');
    await ended(page);
  },
  async streaming(page) {
    await say(page, STORY[0]);
    await page.locator('.caret').waitFor({ state: 'attached' });
    await page.getByText('slides over the gallery').waitFor();
    await say(page, 'And what does the fog signal sound like?');
    await say(page, 'Who taught you to wind it?');
    await page.locator('.wait').nth(1).waitFor();
  },
  async interrupted(page) {
    await say(page, 'Explain crop rotation to me as if my balcony were a very small farm.');
    await ended(page, 'failed');
  },
  async refused(page, v) {
    await say(page, 'Night train to Lisbon');
    await ended(page);
    v.line.up = (m, reply) => {
      if (m.rpc?.method !== 'chat.send') return m;
      const card = m.rpc.data.text.includes('card');
      reply({
        rpc: {
          data: {
            status: 'refused',
            reason: card ? { code: 'blocked', message: 'x' } : { code: 'rate_limited', message: 'x', retry_ms: 42_000 },
          },
        },
      });
      return undefined;
    };
    for (const text of [
      'Also, here is my card number for the seed shop: 4929 1234 1234 1187',
      'Then remind me in April, and order two packets of the small French ones.',
    ]) {
      await page.locator('#say').fill(text);
      await page.locator('.go[type="submit"]').click();
      await page.locator('.note').last().waitFor();
    }
    await page.locator('.note').nth(1).waitFor();
  },
  async offline(page, v) {
    await say(page, 'Night train to Lisbon');
    await ended(page);
    v.line.down = true;
    v.line.cut();
    await page.locator('.banner').waitFor();
    await page.locator('#say').fill('And is there a café on board, or should I pack a supper?');
    await page.locator('.go[type="submit"]').click();
    await page.locator('.pill.held').waitFor();
  },
  async stopped(page) {
    await say(page, STORY[0]);
    await page.getByText('slides over the gallery').waitFor();
    await page.locator('.go.halt').click();
    await ended(page, 'stopped');
  },
  async loading(page, v) {
    await page.route('**/readyz', (r) => r.fulfill({ status: 503, body: 'model=default loading' }));
    v.line.back = (m) =>
      m.push?.pub?.data?.t === 'st' ? { push: { ...m.push, pub: { data: { ...m.push.pub.data, st: 'queued' } } } } : m;
    s.up.script('Are you there?', [{ wait: 'never' }]);
    await say(page, 'Are you there?');
    await page.locator('.turn.last .note').waitFor();
  },
  async palette(page) {
    await page.keyboard.press('Control+k');
    await page.locator('.palette .option').first().waitFor();
  },
  async settings(page) {
    await page.locator('.bar .has-menu .act').click();
    await page.getByRole('menuitem', { name: 'Settings' }).click();
    await page.locator('.settings').waitFor();
  },
  async keys(page) {
    await page.locator('.bar .has-menu .act').click();
    await page.getByRole('menuitem', { name: 'Keyboard' }).click();
    await page.locator('dialog.keys').waitFor();
  },
  async menu(page) {
    await say(page, 'Night train to Lisbon');
    await ended(page);
    await page.locator('.bar .has-menu .act').click();
    await page.locator('.menu').waitFor();
  },
  async facts(page) {
    await say(page, 'Night train to Lisbon');
    await ended(page);
    await page.getByLabel('About this answer').click();
    await page.locator('.facts').waitFor();
  },
  async remove(page) {
    await say(page, 'Night train to Lisbon');
    await ended(page);
    await page.locator('.bar .has-menu .act').click();
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    await page.locator('dialog.small').waitFor();
  },
  async list(page) {
    if (await page.locator('.bar .open').isVisible()) await page.locator('.bar .open').click();
  },
};

for (const [width, height] of WIDTHS) {
  for (const scheme of ['light', 'dark']) {
    for (const [name, act] of Object.entries(STATES)) {
      if (only.length > 0 && !only.includes(name)) continue;
      const v = await s.visitor({
        viewport: { width, height },
        colorScheme: scheme,
        ...(width < 500 ? { hasTouch: true, isMobile: true } : {}),
      });
      const page = await fill(v, ['A name for the boat, please', 'Night train to Lisbon']);
      await page.goto(`${s.server.url}/#`);
      await page.locator('.welcome').waitFor();
      await act(page, v);
      await page.waitForTimeout(350);
      await page.screenshot({ path: path.join(dir, `${name}-${width}-${scheme}.png`) });
      await v.close();
    }
  }
}
console.log(s.faults);
await s.close();
