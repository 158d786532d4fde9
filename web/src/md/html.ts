/**
 * Tokens to HTML. Everything that comes from a message is escaped here; the only tags that can be written in a message
 * are those of KNOWN_TAGS, and only without attributes. The sanitiser (`safe.ts`) then checks the result a second time.
 */
import type { Token, Tokens } from 'marked';
import type { Tex } from './lexer';

/** Tags a message may write by itself: no attribute, no content model of their own. */
const KNOWN_TAGS = new Set(['b', 'strong', 'i', 'em', 'u', 's', 'del', 'sub', 'sup', 'kbd', 'mark', 'code', 'small']);
const SAFE_LINK = /^(?:https?:\/\/[^\s/]|mailto:[^\s])/i;

export function escape(text: string): string {
  return text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/'/g, '&#39;');
}

/** marked leaves text escaped once where it came from entities; this undoes and redoes it, so that nothing is doubled. */
const NAMED: Record<string, string> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: '\u00a0',
  hellip: '…',
  mdash: '—',
  ndash: '–',
  copy: '©',
  reg: '®',
  trade: '™',
  deg: '°',
  times: '×',
  rarr: '→',
  larr: '←',
  middot: '·',
  bull: '•',
  euro: '€',
  laquo: '«',
  raquo: '»',
  ldquo: '“',
  rdquo: '”',
  lsquo: '‘',
  rsquo: '’',
};
export function unescape(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,8}));/g,
    (all, dec?: string, hex?: string, name?: string) => {
      if (name !== undefined) return Object.hasOwn(NAMED, name) ? (NAMED[name] ?? all) : all;
      const code = dec !== undefined ? Number.parseInt(dec, 10) : Number.parseInt(hex ?? '', 16);
      return code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? String.fromCodePoint(code) : '\ufffd';
    },
  );
}

/** Only addresses a reader can follow without harm; everything else is shown as text. */
export function linkOf(href: string): string | undefined {
  const clean = unescape(href).replace(/[\u0000-\u0020\u007f-\u009f\u200b-\u200f\u2028-\u202e]/g, '');
  return SAFE_LINK.test(clean) ? clean : undefined;
}

export interface HtmlState {
  /** An h3 has been written in this answer: deeper headings may follow it. */
  headed: boolean;
  /** Open tags of KNOWN_TAGS in the current run of inline text. */
  tags: string[];
}

export function newState(): HtmlState {
  return { headed: false, tags: [] };
}

function rawTag(raw: string, state: HtmlState): string {
  const found = /^<(\/?)([a-zA-Z]+)[ \t\n]*(\/?)>$/.exec(raw.trim());
  const name = found?.[2]?.toLowerCase();
  if (found === null || name === undefined) return escape(raw);
  if (name === 'br') return found[1] === '' ? '<br>' : '';
  if (!KNOWN_TAGS.has(name) || found[3] !== '') return escape(raw);
  if (found[1] === '') {
    state.tags.push(name);
    return `<${name}>`;
  }
  if (state.tags[state.tags.length - 1] !== name) return escape(raw);
  state.tags.pop();
  return `</${name}>`;
}

function closeTags(state: HtmlState, from: number): string {
  let out = '';
  while (state.tags.length > from) out += `</${state.tags.pop()}>`;
  return out;
}

function texSpan(token: Tex, display: boolean): string {
  const kind = display ? 'block' : 'inline';
  return `<span class="tex" data-tex="${kind}"${token.open ? ' data-open="1"' : ''}>${escape(token.tex)}</span>`;
}

export function inlineHtml(tokens: Token[] | undefined, state: HtmlState): string {
  const depth = state.tags.length;
  let out = '';
  for (const token of tokens ?? []) out += inlineOne(token, state);
  return out + closeTags(state, depth);
}

function inlineOne(token: Token, state: HtmlState): string {
  switch (token.type) {
    case 'text':
    case 'escape': {
      const t = token as Tokens.Text;
      if (t.tokens && t.tokens.length > 0) return inlineHtml(t.tokens, state);
      return escape(token.type === 'escape' ? t.text : unescape(t.text));
    }
    case 'strong':
      return `<strong>${inlineHtml(token.tokens, state)}</strong>`;
    case 'em':
      return `<em>${inlineHtml(token.tokens, state)}</em>`;
    case 'del':
      return `<del>${inlineHtml(token.tokens, state)}</del>`;
    case 'codespan':
      return `<code>${escape((token as Tokens.Codespan).text)}</code>`;
    case 'br':
      return '<br>';
    case 'html':
      return rawTag(token.raw, state);
    case 'link': {
      const href = linkOf((token as Tokens.Link).href);
      const text = inlineHtml(token.tokens, state);
      return href === undefined ? text : `<a href="${escape(href)}">${text}</a>`;
    }
    case 'image': {
      const image = token as Tokens.Image;
      const href = linkOf(image.href);
      const text = escape(unescape(image.text) || (href ?? 'image'));
      return href === undefined ? text : `<a href="${escape(href)}" class="picture">${text}</a>`;
    }
    case 'tex':
      return texSpan(token as Tex, false);
    case 'checkbox':
      return '';
    default:
      return escape(token.raw);
  }
}

function listHtml(token: Tokens.List, state: HtmlState): string {
  const tag = token.ordered ? 'ol' : 'ul';
  const start = token.ordered && token.start !== 1 && token.start !== '' ? ` start="${Number(token.start)}"` : '';
  let out = `<${tag} dir="auto"${start}${token.loose ? ' class="loose"' : ''}>`;
  for (const item of token.items) {
    const tick = item.task
      ? `<span class="tick${item.checked ? ' done' : ''}">${item.checked ? '☑' : '☐'}</span> `
      : '';
    out += `<li${item.task ? ' class="task"' : ''}>${tick}${itemHtml(item, token.loose, state)}</li>`;
  }
  return `${out}</${tag}>`;
}

/** A tight item holds bare text, a loose one paragraphs. */
function itemHtml(item: Tokens.ListItem, loose: boolean, state: HtmlState): string {
  let out = '';
  for (const token of item.tokens) {
    if (token.type === 'text' || (token.type === 'paragraph' && !loose))
      out += inlineHtml((token as Tokens.Text).tokens ?? [token], state);
    else out += blockHtml(token, state);
  }
  return out;
}

function tableHtml(token: Tokens.Table, state: HtmlState): string {
  const cell = (tag: 'th' | 'td', c: Tokens.TableCell): string => {
    const end = c.align === 'right' ? ' class="end"' : c.align === 'center' ? ' class="mid"' : '';
    const scope = tag === 'th' ? ' scope="col"' : '';
    return `<${tag}${scope}${end} dir="auto">${inlineHtml(c.tokens, state)}</${tag}>`;
  };
  const head = token.header.map((c) => cell('th', c)).join('');
  const rows = token.rows.map((row) => `<tr>${row.map((c) => cell('td', c)).join('')}</tr>`).join('');
  return `<table><thead><tr>${head}</tr></thead><tbody>${rows}</tbody></table>`;
}

/** A paragraph that is one emphasis is narration: what happens, beside what is said. */
function isNarration(token: Tokens.Paragraph): boolean {
  const parts = token.tokens.filter((t) => !(t.type === 'text' && t.raw.trim() === ''));
  return parts.length === 1 && parts[0]?.type === 'em' && parts[0].raw.length > 12;
}

export function blockHtml(token: Token, state: HtmlState): string {
  switch (token.type) {
    case 'space':
    case 'def':
    case 'checkbox':
      return '';
    case 'paragraph': {
      const p = token as Tokens.Paragraph;
      const narration = isNarration(p);
      const inner = narration
        ? inlineHtml((p.tokens.find((t) => t.type === 'em') as Tokens.Em | undefined)?.tokens, state)
        : inlineHtml(p.tokens, state);
      return `<p dir="auto"${narration ? ' class="narr"' : ''}>${inner}</p>`;
    }
    case 'text':
      return `<p dir="auto">${inlineHtml((token as Tokens.Text).tokens ?? [token], state)}</p>`;
    case 'heading': {
      const depth = (token as Tokens.Heading).depth;
      const tag = depth >= 3 && state.headed ? 'h4' : 'h3';
      if (tag === 'h3') state.headed = true;
      return `<${tag} dir="auto"${depth === 1 ? ' class="first"' : ''}>${inlineHtml(token.tokens, state)}</${tag}>`;
    }
    case 'code': {
      const code = token as Tokens.Code;
      const lang = /^[\w+#.-]{1,32}/.exec(code.lang ?? '')?.[0] ?? '';
      return `<pre data-lang="${escape(lang)}"><code>${escape(code.text)}</code></pre>`;
    }
    case 'blockquote':
      return `<blockquote dir="auto">${(token.tokens ?? []).map((t) => blockHtml(t, state)).join('')}</blockquote>`;
    case 'list':
      return listHtml(token as Tokens.List, state);
    case 'table':
      return tableHtml(token as Tokens.Table, state);
    case 'hr':
      return '<hr>';
    case 'texblock':
      return `<p class="texline">${texSpan(token as Tex, true)}</p>`;
    case 'html':
      return `<p dir="auto">${htmlBlock(token.raw, state)}</p>`;
    default:
      return `<p dir="auto">${inlineHtml([token], state)}</p>`;
  }
}

/** A block of raw HTML: known bare tags work, all else is shown as it was written. */
function htmlBlock(raw: string, state: HtmlState): string {
  const depth = state.tags.length;
  const out = raw
    .trim()
    .split(/(<\/?[a-zA-Z]+[ \t\n]*\/?>)/)
    .map((part, i) => (i % 2 === 1 ? rawTag(part, state) : escape(part)))
    .join('');
  return out.replace(/\n/g, '<br>') + closeTags(state, depth);
}
