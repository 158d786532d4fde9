/** The picture for the README: node e2e/picture.mjs FILE. A realistic conversation over the small server. */
import { chromium } from 'playwright-core';
import { startFake } from '../test/fake.mjs';
import { startUpstream } from './upstream.mjs';

const TALKS = [
  [26 * 24, 'Night train to Lisbon', 'Change at Hendaye, 40 minutes'],
  [9 * 24, 'A name for the boat', '“Patience” is taken, alas'],
  [74, 'Sorting old photographs', 'Start with the dates you are sure of'],
  [50, 'A parcel gone astray', 'It left Leeds this morning'],
  [27, 'Soup for eight', 'Roast the squash first, skin and all'],
  [4, 'Spanish, lesson 12', 'Casi perfecto. One accent is missing'],
];
const QUESTION = 'My sensor writes soil.csv every hour. A little script that says which pots are dry, please?';
const ANSWER =
  'This takes the newest reading of each pot and holds it against what that plant can bear.\n\n```python\nimport csv\n\nBEARS = {"tomato": 35, "courgette": 40, "basil": 30}  # percent\n\nwith open("soil.csv", newline="") as file:\n    newest = {row["pot"]: row for row in csv.DictReader(file)}\n\nfor pot, row in sorted(newest.items()):\n    if float(row["moisture"]) < BEARS[row["plant"]]:\n        print(f"{pot} is dry: {row[\'moisture\']} %")\n```\n\nRun it with `python3 dry.py`. No news is good news: it prints nothing when all are well.';

const up = await startUpstream();
const fake = await startFake({ upstream: up.url });
up.script(QUESTION, [{ say: ANSWER }]);
for (const [, title, last] of TALKS) up.script(title, [{ say: last }]);
const browser = await chromium.launch({
  executablePath: process.env.KITH_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
const context = await browser.newContext({
  viewport: { width: 1280, height: 800 },
  colorScheme: 'light',
  locale: 'en-GB',
});
const page = await context.newPage();
await page.goto(fake.url);
const ask = async (text) => {
  await page.evaluate(() => {
    location.hash = '';
  });
  await page.locator('.welcome h1').waitFor();
  await page.locator('#say').fill(text);
  await page.keyboard.press('Enter');
  await page.locator('.turn.last[data-status="complete"]').waitFor();
};
for (const [, title] of TALKS) await ask(title);
await ask(QUESTION);
const here = new URL(page.url()).hash.slice(1);
await page.goto('about:blank');
const now = Date.now();
for (const c of fake.conversations.values()) {
  const known = TALKS.find(([, title]) => title === c.title);
  if (known) c.updated = now - known[0] * 3_600_000;
  c.read.set(c.owner, c.title.startsWith('Spanish') ? 1 : 99);
  if (c.id === here) c.title = 'Balcony in July';
}
await page.goto(`${fake.url}/#${here}`);
await page.locator('pre .k').first().waitFor();
await page.locator('.days .name').filter({ hasText: 'Balcony in July' }).waitFor();
await page.locator('#say').fill('Lovely. And who waters them while I’m away?');
await page.evaluate(() => document.activeElement.blur());
await page.mouse.move(900, 620);
await page.waitForTimeout(400);
await page.screenshot({ path: process.argv[2] ?? 'page.png' });
await browser.close();
fake.close();
up.close();
