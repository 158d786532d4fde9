/**
 * marked's lexer with what answers need beside CommonMark and GFM: maths in `$…$`, `$$…$$`, `\(…\)` and `\[…\]`.
 * `lexOpen` reads the tail of an answer that is still written: there, maths whose end has not come is maths already.
 */
import { Lexer, Marked, type Token, type TokenizerAndRendererExtension, type Tokens, type TokensList } from 'marked';

export interface Tex extends Tokens.Generic {
  type: 'tex' | 'texblock';
  raw: string;
  tex: string;
  open: boolean;
}

let open = false;

/** What stands behind an unclosed `$` is maths only if it looks like it: prices stay prices. */
const LOOKS_LIKE_TEX = /^(?:[A-Za-z]$|[^\s\d].*[\\^_={}+*/<>]|\\[A-Za-z(])/;

const block: TokenizerAndRendererExtension = {
  name: 'texblock',
  level: 'block',
  start: (src) => /(?:^|\n) {0,3}(?:\$\$|\\\[)/.exec(src)?.index,
  tokenizer(src): Tex | undefined {
    const whole = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n+|$)/.exec(src);
    if (whole) return { type: 'texblock', raw: whole[0], tex: (whole[1] ?? whole[2] ?? '').trim(), open: false };
    if (!open) return undefined;
    const half = /^ {0,3}(?:\$\$(?![^\n]*\$\$[^\n])|\\\[)([\s\S]*)$/.exec(src);
    if (!half || /\n[ \t]*\n/.test(half[1] ?? '')) return undefined;
    return { type: 'texblock', raw: half[0], tex: (half[1] ?? '').replace(/\$$|\\$/, '').trim(), open: true };
  },
};

const inline: TokenizerAndRendererExtension = {
  name: 'tex',
  level: 'inline',
  start: (src) => {
    const at = src.search(/\$|\\\(|\\\[/);
    return at < 0 ? undefined : at;
  },
  tokenizer(src): Tex | undefined {
    const whole =
      /^(?:\$\$([^\n]+?)\$\$|\\\(([\s\S]+?)\\\)|\\\[([\s\S]+?)\\\]|\$(?!\s)((?:\\.|[^$\\\n])+?)(?<!\s)\$(?![\d\p{L}]))/u.exec(
        src,
      );
    if (whole) {
      const tex = whole[1] ?? whole[2] ?? whole[3] ?? whole[4] ?? '';
      return { type: 'tex', raw: whole[0], tex, open: false };
    }
    if (!open) return undefined;
    const half = /^(?:(\\\(|\\\[|\$\$)([\s\S]*)|\$([^$\n]*))$/.exec(src);
    if (!half) return undefined;
    if (half[1] === undefined && !LOOKS_LIKE_TEX.test(half[3] ?? '')) return undefined;
    return { type: 'tex', raw: half[0], tex: (half[2] ?? half[3] ?? '').replace(/\\$/, ''), open: true };
  },
};

const engine = new Marked({ gfm: true, breaks: true, extensions: [block, inline] });

/** A bare address is a link only where nothing else may be meant; marked's rule is kept. */
export function lex(text: string, links: TokensList['links']): Token[] {
  open = false;
  const lexer = new Lexer({ ...engine.defaults });
  Object.assign(lexer.tokens.links, links);
  const tokens = lexer.lex(text);
  Object.assign(links, tokens.links);
  return tokens;
}

export function lexOpen(text: string, links: TokensList['links']): Token[] {
  open = true;
  try {
    const lexer = new Lexer({ ...engine.defaults });
    Object.assign(lexer.tokens.links, links);
    return lexer.lex(text);
  } finally {
    open = false;
  }
}
