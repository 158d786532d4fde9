/**
 * The second lock: an allow-list over the HTML that `html.ts` made, and over what KaTeX returns. Nothing reaches the
 * document but through here. Links get what keeps the page and the reader private.
 */
import DOMPurify from 'dompurify';

const TAGS = [
  'p',
  'br',
  'hr',
  'strong',
  'b',
  'em',
  'i',
  'u',
  's',
  'del',
  'sub',
  'sup',
  'kbd',
  'mark',
  'small',
  'code',
  'pre',
  'a',
  'ul',
  'ol',
  'li',
  'h3',
  'h4',
  'blockquote',
  'table',
  'thead',
  'tbody',
  'tr',
  'th',
  'td',
  'span',
];
const ATTRIBUTES = ['href', 'dir', 'class', 'scope', 'start', 'data-lang', 'data-tex', 'data-open'];

export function safeFragment(html: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ADD_URI_SAFE_ATTR: ATTRIBUTES.filter((name) => name !== 'href'),
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
  }
  return fragment;
}

const MATHML = [
  'math',
  'semantics',
  'mrow',
  'mi',
  'mo',
  'mn',
  'ms',
  'mtext',
  'mspace',
  'mfrac',
  'msqrt',
  'mroot',
  'msub',
  'msup',
  'msubsup',
  'munder',
  'mover',
  'munderover',
  'mtable',
  'mtr',
  'mtd',
  'mlabeledtr',
  'mstyle',
  'mpadded',
  'mphantom',
  'menclose',
  'mmultiscripts',
  'mprescripts',
];
const MATHML_ATTRIBUTES = [
  'display',
  'mathvariant',
  'stretchy',
  'fence',
  'separator',
  'lspace',
  'rspace',
  'width',
  'height',
  'depth',
  'voffset',
  'minsize',
  'maxsize',
  'symmetric',
  'accent',
  'accentunder',
  'columnalign',
  'columnspacing',
  'rowspacing',
  'columnlines',
  'rowlines',
  'scriptlevel',
  'displaystyle',
  'linethickness',
  'notation',
  'mathcolor',
  'mathbackground',
  'movablelimits',
  'largeop',
  'form',
];

/** `annotation` would keep the source as text to be read aloud twice, so it is dropped with what it holds. */
export function safeMath(mathml: string): DocumentFragment {
  const bare = mathml.replace(/ style="[^"]*"/g, '').replace(/<annotation[\s\S]*?<\/annotation>/g, '');
  return DOMPurify.sanitize(bare, {
    ALLOWED_TAGS: MATHML,
    ALLOWED_ATTR: MATHML_ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}
