/** The renderer alone, for the corpus: bundled by the test and driven from outside. */
import { AnswerView } from '../src/md/answer';
import { light } from '../src/md/lit';
import { arrived } from '../src/md/load';

const FORBIDDEN =
  'script, iframe, frame, object, embed, form, input, textarea, select, link, meta, base, style, img, image, video, audio, source, template, slot, dialog, details, marquee, foreignObject, animate, set, noscript';
const OWN_ATTRIBUTES = new Set([
  'aria-hidden',
  'aria-label',
  'aria-pressed',
  'class',
  'data-does',
  'data-lang',
  'data-open',
  'data-tex',
  'dir',
  'href',
  'rel',
  'role',
  'scope',
  'start',
  'tabindex',
  'target',
  'title',
  'type',
]);

function faults(root: Element): string[] {
  const found = Array.from(root.querySelectorAll(FORBIDDEN), (e) => `element ${e.tagName}`);
  for (const e of root.querySelectorAll('*')) {
    const inMath = e.closest('math') !== null;
    for (const { name, value } of Array.from(e.attributes)) {
      if (name.startsWith('on') || name === 'style' || name === 'id' || name === 'name' || name.startsWith('xlink'))
        found.push(`attribute ${name}`);
      else if (!OWN_ATTRIBUTES.has(name) && !inMath) found.push(`attribute ${name}`);
      if (
        name === 'href' &&
        !(e.tagName === 'use' && /^#i-[a-z]+$/.test(value)) &&
        !/^(?:https?:\/\/|mailto:)/i.test(value)
      )
        found.push(`address ${value}`);
    }
    if (e.tagName === 'BUTTON' && e.closest('figcaption.head') === null) found.push('a button of its own');
    if (e.tagName === 'A' && (e as HTMLAnchorElement).rel !== 'noopener noreferrer nofollow')
      found.push('a link that tells');
  }
  return found;
}

function check(text: string): string[] {
  const found = new Set<string>();
  const whole = document.createElement('div');
  document.body.append(whole);
  new AnswerView(whole).show(text, 'done');
  for (const f of faults(whole)) found.add(f);
  const grown = document.createElement('div');
  document.body.append(grown);
  const view = new AnswerView(grown);
  for (let at = 1; at <= text.length; at++) {
    view.show(text.slice(0, at), 'open');
    for (const f of faults(grown)) found.add(`${f} at ${at}`);
  }
  view.show(text, 'cut');
  for (const f of faults(grown)) found.add(`${f} when cut`);
  view.show(text, 'done');
  view.refresh();
  for (const f of faults(grown)) found.add(`${f} at the end`);
  for (const button of grown.querySelectorAll('button')) button.click();
  whole.remove();
  grown.remove();
  return [...found];
}

/** Colours and maths are loaded before the corpus runs, so that they take part in it. */
async function ready(): Promise<void> {
  const probe = document.createElement('code');
  probe.textContent = 'x';
  light(probe, 'js');
  const root = document.createElement('div');
  new AnswerView(root).show('$x^2$', 'done');
  while (arrived.value < 2)
    await new Promise((resolve) => {
      requestAnimationFrame(resolve);
    });
}

Object.assign(globalThis, { check, ready });
