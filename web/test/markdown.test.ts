import { describe, expect, it } from 'vitest';
import { AnswerView } from '../src/md/answer';

function whole(text: string): HTMLElement {
  const root = document.createElement('div');
  new AnswerView(root).show(text, 'done');
  return root;
}

/** The order in which attributes were set is no difference. */
function normal(root: HTMLElement): string {
  for (const element of root.querySelectorAll('*')) {
    const attributes = Array.from(element.attributes).sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const a of attributes) element.removeAttribute(a.name);
    for (const a of attributes) element.setAttribute(a.name, a.value);
  }
  return root.innerHTML;
}

/** Shows every prefix in turn, as streaming one character at a time does, and calls `look` after each. */
function stream(text: string, look: (root: HTMLElement, shown: string) => void = () => undefined, by = 1): HTMLElement {
  const root = document.createElement('div');
  const view = new AnswerView(root);
  for (let at = 1; at <= text.length; at += by) {
    const shown = text.slice(0, at);
    view.show(shown, 'open');
    look(root, shown);
  }
  view.show(text, 'done');
  return root;
}

/** What a reader sees as prose: without code, where every character may stand. */
function prose(root: HTMLElement): string {
  const copy = root.cloneNode(true) as HTMLElement;
  for (const code of copy.querySelectorAll('code, pre, .tex, .head')) code.remove();
  return copy.textContent ?? '';
}

const SAMPLES: Record<string, string> = {
  emphasis: 'A **bold** word, an *italic one*, ***both***, ~~gone~~ and `code with * inside`. End.',
  narration:
    '*She lays a hand on the brass housing, the way one quiets a horse.*\n\n“By clockwork, yes.”\n\n*Outside, the horizon has gone.*',
  link: 'See [the **manual**](https://example.org/a_b) and <https://example.org/x>, or ![a picture](https://example.org/p.png) there.',
  fence: 'Run this:\n\n```python\nprint("**not bold** | no table")\nx = `1`\n```\n\nThen rest.',
  tilde: 'Thus:\n\n~~~\ncode ``` inside\n~~~\n\nDone.',
  table:
    'Compare:\n\n| Plant | Water | **Bold** |\n|:---|---:|:--:|\n| Tomato | 2 l | `a|b` |\n| Basil | a *cup* | yes |\n\nAfter.',
  list: 'Three:\n\n- one **strong** thing\n- two\n  - nested `code`\n- three\n\n1. first\n2. second\n\n- [ ] open\n- [x] done\n',
  heading: 'Intro\n\n## A **heading**\n\ntext\n\n### Deeper\n\nmore text\n---\nnot a heading above? yes it is\n',
  quote: '> To be **or** not\n> to be\n\nsaid he.',
  maths:
    'The area is $\\pi r^2$ and\n\n$$\n\\int_0^1 x^2\\,dx = \\frac{1}{3}\n$$\n\nor \\(a^2+b^2=c^2\\), and \\[ e^{i\\pi} = -1 \\] too. It costs $5 and $6.',
  entities: 'Fish &amp; chips &lt;b&gt; 5 < 6 & 7 > 3 &copy; 2 * 3 * 4 a_b_c',
  html: 'Line<br>break, H<sub>2</sub>O, x<sup>2</sup>, <kbd>Ctrl</kbd>, <div class="x">raw</div>.',
  code: '1. Install:\n\n   ```bash\n   make deps\n   ```\n\n2. Run it.\n',
};

describe('streamed text', () => {
  for (const [name, text] of Object.entries(SAMPLES)) {
    it(`ends as the whole does: ${name}`, () => {
      expect(normal(stream(text))).toBe(normal(whole(text)));
    });
  }

  const RAW: Record<string, RegExp> = {
    emphasis: /\*|~~/,
    narration: /\*/,
    link: /\]\(|!\[|\*\*|\[the/,
    fence: /```|^`|\*\*/m,
    tilde: /~~~/,
    table: /\||--|\*/,
    list: /\*\*|\[[ x]?\]|^- /m,
    heading: /#|\*\*|---/,
    quote: /> |\*\*/,
    maths: /\$\$|\\\(|\\\[|\$\\pi/,
    html: /<br|<sub|<\/s|<kbd/,
  };
  for (const [name, pattern] of Object.entries(RAW)) {
    it(`shows no raw markers at any cut: ${name}`, () => {
      const seen: string[] = [];
      stream(SAMPLES[name] ?? '', (root, shown) => {
        if (pattern.test(prose(root)))
          seen.push(`${JSON.stringify(shown.slice(-24))} -> ${JSON.stringify(prose(root).slice(-40))}`);
      });
      expect(seen).toEqual([]);
    });
  }

  it('never touches a finished block again', () => {
    const text = Object.values(SAMPLES).join('\n\n');
    const html = new Map<Element, string>();
    stream(
      text,
      (root) => {
        const blocks = Array.from(root.children);
        for (const [i, block] of blocks.slice(0, -1).entries()) {
          const known = html.get(block);
          if (known !== undefined) expect(block.outerHTML).toBe(known);
          else if (i < blocks.length - 2) html.set(block, block.outerHTML);
        }
      },
      9,
    );
    expect(html.size).toBeGreaterThan(10);
  });

  it('keeps the nodes of the block that grows, so that a selection in it is kept', () => {
    const root = document.createElement('div');
    const view = new AnswerView(root);
    view.show('The first words', 'open');
    const text = root.querySelector('p')?.firstChild;
    view.show('The first words and more', 'open');
    expect(root.querySelector('p')?.firstChild).toBe(text);
    view.show('The first words and more.', 'done');
    expect(root.querySelector('p')?.firstChild).toBe(text);
  });

  it('draws a table and a fence as their boxes from the first line', () => {
    const root = document.createElement('div');
    const view = new AnswerView(root);
    view.show('| Plant | Wa', 'open');
    expect(root.querySelector('figure.box table thead th')).not.toBeNull();
    expect(root.querySelectorAll('th').length).toBe(2);
    const other = document.createElement('div');
    new AnswerView(other).show('```py', 'open');
    expect(other.querySelector('figure.box pre')).not.toBeNull();
    expect(other.querySelectorAll('button').length).toBe(3);
  });

  it('has one caret while open and none afterwards', () => {
    stream(SAMPLES['list'] ?? '', (root) => {
      expect(root.querySelectorAll('.caret').length).toBe(1);
    });
    expect(stream(SAMPLES['list'] ?? '').querySelectorAll('.caret').length).toBe(0);
  });

  it('makes a text whole that was cut in the middle', () => {
    const root = document.createElement('div');
    const view = new AnswerView(root);
    view.show('One.\n\n*Outside, the horizon has', 'open');
    view.show('One.\n\n*Outside, the horizon has', 'cut');
    expect(root.querySelector('p.narr')?.textContent).toBe('Outside, the horizon has');
    expect(root.querySelector('.caret')).toBeNull();
  });

  it('starts anew when the text is another one', () => {
    const root = document.createElement('div');
    const view = new AnswerView(root);
    view.show('One.\n\nTwo.\n\nThree', 'open');
    view.show('Withdrawn.', 'done');
    expect(root.textContent).toBe('Withdrawn.');
  });
});

describe('blocks', () => {
  it('sets narration apart and only where a paragraph is nothing else', () => {
    expect(whole('*She lays a hand on it.*').querySelector('p.narr')).not.toBeNull();
    expect(whole('*Yes*, she said.').querySelector('p.narr')).toBeNull();
  });
  it('gives each block its own direction, and code left to right', () => {
    const root = whole('שלום\n\n- a\n\n> q\n\n| a |\n|---|\n| b |\n\n```js\nx\n```');
    for (const block of root.querySelectorAll('p, ul, blockquote, td')) expect(block.getAttribute('dir')).toBe('auto');
    expect(root.querySelector('pre')?.getAttribute('dir')).toBe('ltr');
  });
  it('opens links elsewhere, without telling where from', () => {
    const link = whole('[a](https://example.org/)').querySelector('a');
    expect(link?.rel).toBe('noopener noreferrer nofollow');
    expect(link?.target).toBe('_blank');
  });
  it('shows a picture as a link: nothing foreign is fetched', () => {
    const root = whole('![a cat](https://example.org/cat.png)');
    expect(root.querySelector('img')).toBeNull();
    expect(root.querySelector('a.picture')?.textContent).toBe('a cat');
  });
  it('names the language of code', () => {
    expect(whole('```python\nx\n```').querySelector('.head span')?.textContent).toBe('Python');
    expect(whole('```constructor\nx\n```').querySelector('.head span')?.textContent).toBe('constructor');
    expect(whole('```\nx\n```').querySelector('.head span')?.textContent).toBe('Code');
  });
  it('never skips a heading level', () => {
    expect(Array.from(whole('### A\n\n#### B\n\n# C').querySelectorAll('h3, h4'), (h) => h.tagName)).toEqual([
      'H3',
      'H4',
      'H3',
    ]);
  });
  it('ticks what is done', () => {
    expect(whole('- [x] done\n- [ ] open').textContent).toBe('☑ done☐ open');
  });
  it('numbers lists as written', () => {
    expect(whole('3. a\n4. b').querySelector('ol')?.getAttribute('start')).toBe('3');
  });
  it('keeps prices prices', () => {
    expect(whole('It costs $5 and $6 a day.').querySelector('.tex')).toBeNull();
  });
  it('reads carriage returns', () => {
    expect(normal(stream('a\r\n\r\nb\rc'))).toBe(normal(whole('a\n\nb\nc')));
  });
});
