/**
 * One answer's text on the page, block by block. Finished blocks are drawn once and never touched again; only the last
 * block, while the answer is open, is lexed, cleaned and morphed anew for each painted frame.
 */
import type { Token, TokensList } from 'marked';
import { boxCode, boxTable, caret } from './boxes';
import { blockHtml, newState } from './html';
import { lex, lexOpen } from './lexer';
import { light } from './lit';
import { mend, undecided } from './mend';
import { morphList } from './morph';
import { safeFragment } from './safe';
import { typeset } from './tex';

/** Index of the last token that holds something, or -1. */
function lastSolid(tokens: Token[], from = tokens.length - 1): number {
  for (let i = from; i >= 0; i--) if (tokens[i]?.type !== 'space') return i;
  return -1;
}

/** Index of the first token that what comes next may still change: the last one, or two where a list may go on. */
function firstOpen(tokens: Token[]): number {
  const last = lastSolid(tokens);
  if (last <= 0 || !undecided(tokens[last]?.raw ?? '')) return last;
  const before = lastSolid(tokens, last - 1);
  return tokens[before]?.type === 'list' ? before : last;
}

function decorate(fragment: DocumentFragment): Element[] {
  for (const pre of fragment.querySelectorAll('pre')) {
    const code = pre.querySelector('code');
    if (code === null) continue;
    light(code, pre.dataset['lang'] ?? '');
    boxCode(pre, pre.dataset['lang'] ?? '');
  }
  for (const table of fragment.querySelectorAll('table')) boxTable(table);
  for (const span of fragment.querySelectorAll<HTMLElement>('.tex')) typeset(span);
  return Array.from(fragment.children);
}

/** Where the caret goes: behind the last character, inside the block that grows. */
function caretHost(element: Element): Element {
  const code = element.querySelector('pre code');
  if (code !== null && element.matches('figure.box')) return code;
  const cells = element.querySelectorAll('td, th');
  const cell = cells[cells.length - 1];
  if (cell !== undefined) return cell;
  let host = element;
  for (;;) {
    const last = host.lastElementChild;
    if (last === null || !last.matches('ul, ol, li, blockquote, p, h3, h4') || last.nextSibling !== null) return host;
    host = last;
  }
}

/** open: more is to come. cut: it ended in the middle, so its last block is made whole. done: as it was meant. */
export type Shown = 'open' | 'cut' | 'done';

export class AnswerView {
  #root: HTMLElement;
  /** Source of all finished blocks; the text up to here is never read again. */
  #done = '';
  #links: TokensList['links'] = {};
  #state = newState();
  /** Elements of the last, unfinished block. */
  #open: Element[] = [];
  #openSource: string | undefined;
  #openCaret = false;

  constructor(root: HTMLElement) {
    this.#root = root;
  }

  /** Colours or maths have arrived: fills in what was drawn plain, in place. */
  refresh(): void {
    for (const code of this.#root.querySelectorAll<HTMLElement>('pre[data-lang] > code')) {
      if (code.querySelector('span') === null) light(code, code.parentElement?.dataset['lang'] ?? '');
    }
    for (const span of this.#root.querySelectorAll<HTMLElement>('.tex:not(.set)')) typeset(span);
  }

  show(source: string, as: Shown): void {
    const text = source.includes('\r') ? source.replace(/\r\n?/g, '\n') : source;
    if (!text.startsWith(this.#done)) this.#reset();
    const tail = text.slice(this.#done.length);
    const tokens = lex(tail, this.#links);
    const last = as === 'done' ? tokens.length : firstOpen(tokens);
    let at = 0;
    for (const token of tokens.slice(0, Math.max(last, 0))) {
      if (!tail.startsWith(token.raw, at)) break;
      this.#finish(token);
      at += token.raw.length;
    }
    this.#done += tail.slice(0, at);
    const rest = tail.slice(at);
    if (as === 'open') this.#drawOpen(rest, true);
    else if (as === 'cut' && rest.trim() !== '') this.#drawOpen(rest, false);
    else if (rest.trim() !== '') this.#drawRest(rest);
    else this.#dropOpen();
  }

  #reset(): void {
    this.#root.replaceChildren();
    this.#done = '';
    this.#links = {};
    this.#state = newState();
    this.#open = [];
    this.#openSource = undefined;
  }

  #dropOpen(): void {
    for (const element of this.#open) element.remove();
    this.#open = [];
    this.#openSource = undefined;
  }

  #elements(tokens: Token[], state = this.#state): Element[] {
    const html = tokens.map((token) => blockHtml(token, state)).join('');
    return html === '' ? [] : decorate(safeFragment(html));
  }

  /** A block is complete: the open elements become it, once. */
  #finish(token: Token): void {
    const want = this.#elements([token]);
    if (want.length === 0 && token.type === 'space') return;
    morphList(this.#root, this.#open, want, null);
    this.#open = [];
    this.#openSource = undefined;
  }

  #drawRest(rest: string): void {
    const want = this.#elements(lex(rest, this.#links));
    morphList(this.#root, this.#open, want, null);
    this.#open = [];
    this.#openSource = undefined;
    this.#done += rest;
  }

  #drawOpen(rest: string, withCaret: boolean): void {
    if (rest === this.#openSource && this.#openCaret === withCaret) return;
    this.#openSource = rest;
    this.#openCaret = withCaret;
    const fenced = /^ {0,3}(?:`{3,}|~{3,})/.test(rest.replace(/^\n+/, ''));
    const mended = fenced ? rest.replace(/\n {0,3}(?:`{1,2}|~{1,2})$/, '\n') : mend(rest);
    const want = this.#elements(lexOpen(mended, this.#links), { headed: this.#state.headed, tags: [] });
    if (want.length === 0 && withCaret) want.push(document.createElement('p'));
    const host = want[want.length - 1];
    if (host !== undefined && withCaret) caretHost(host).appendChild(caret());
    this.#open = morphList(this.#root, this.#open, want, null);
  }
}
