/** The boxes around code and tables: a head with what it is and what one can do, and a part that scrolls by itself. */
import { words } from '../words';

const SVG = 'http://www.w3.org/2000/svg';

export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.appendChild(use);
  return svg;
}

function act(does: string, label: string, sign: string, text?: string): HTMLButtonElement {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'act';
  button.dataset['does'] = does;
  button.setAttribute('aria-label', label);
  button.title = label;
  button.appendChild(icon(sign));
  if (text !== undefined) {
    const span = document.createElement('span');
    span.textContent = text;
    button.appendChild(span);
  }
  return button;
}

function box(inner: Element, name: string, label: string, acts: HTMLButtonElement[]): void {
  const figure = document.createElement('figure');
  figure.className = 'box';
  const head = document.createElement('figcaption');
  head.className = 'head';
  const title = document.createElement('span');
  title.textContent = name;
  head.append(title, ...acts);
  const scroller = document.createElement('div');
  scroller.className = 'in';
  scroller.tabIndex = 0;
  scroller.setAttribute('role', 'group');
  scroller.setAttribute('aria-label', label);
  inner.replaceWith(figure);
  scroller.appendChild(inner);
  figure.append(head, scroller);
}

const NAMES: Record<string, string> = {
  js: 'JavaScript',
  javascript: 'JavaScript',
  ts: 'TypeScript',
  typescript: 'TypeScript',
  py: 'Python',
  python: 'Python',
  sh: 'Shell',
  bash: 'Bash',
  shell: 'Shell',
  c: 'C',
  cpp: 'C++',
  'c++': 'C++',
  cs: 'C#',
  csharp: 'C#',
  go: 'Go',
  rust: 'Rust',
  rs: 'Rust',
  java: 'Java',
  kotlin: 'Kotlin',
  swift: 'Swift',
  rb: 'Ruby',
  ruby: 'Ruby',
  php: 'PHP',
  sql: 'SQL',
  html: 'HTML',
  css: 'CSS',
  json: 'JSON',
  yaml: 'YAML',
  yml: 'YAML',
  xml: 'XML',
  md: 'Markdown',
  markdown: 'Markdown',
  diff: 'Diff',
  ini: 'INI',
  toml: 'TOML',
  r: 'R',
  lua: 'Lua',
  perl: 'Perl',
  text: 'Text',
  txt: 'Text',
  plaintext: 'Text',
};

export function languageName(lang: string): string {
  if (lang === '') return words.code.plain;
  const known = lang.toLowerCase();
  return Object.hasOwn(NAMES, known) ? (NAMES[known] ?? lang) : lang;
}

export function boxCode(pre: HTMLPreElement, lang: string): void {
  const name = languageName(lang);
  pre.dir = 'ltr';
  const wrap = act('wrap', words.code.wrap, 'wrap');
  wrap.setAttribute('aria-pressed', 'false');
  box(pre, name, words.code.region(name), [
    wrap,
    act('save', words.code.save, 'save'),
    act('copy-code', words.code.copy, 'copy', words.copy),
  ]);
}

export function boxTable(table: HTMLTableElement): void {
  box(table, words.table.name, words.table.name, [
    act('copy-table', words.table.copy, 'copy'),
    act('save-table', words.table.save, 'save'),
  ]);
}

/** The breathing caret: placed absolutely by the style sheet, so it takes no room. */
export function caret(): HTMLSpanElement {
  const span = document.createElement('span');
  span.className = 'caret';
  span.setAttribute('aria-hidden', 'true');
  return span;
}
