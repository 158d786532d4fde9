/**
 * Colours for code, loaded when the first code box appears. highlight.js gives a tree of scopes; spans are made from it
 * by hand, so its HTML is never used.
 */
import type { HLJSApi } from 'highlight.js';
import { arrived } from './load';

const BYTES_MAX = 40_000;
let api: HLJSApi | undefined;
let asked = false;

async function load(): Promise<void> {
  const { default: loaded } = await import('highlight.js/lib/common');
  api = loaded;
  arrived.value++;
}

interface Scope {
  scope?: string;
  children: (Scope | string)[];
}

const CLASS_OF: [RegExp, string][] = [
  [/^(?:comment|quote|doctag|meta$)/, 'n_'],
  [/^(?:string|regexp|addition|char|template-variable|link)/, 's'],
  [/^(?:number|literal|symbol|bullet|variable\.constant|attr$|attribute)/, 'v'],
  [/^(?:title|built_in|function|selector|name|tag$|section)/, 'f'],
  [/^(?:keyword|type|operator\.|deletion|variable\.language|meta)/, 'k'],
];

function classOf(scope: string | undefined): string | undefined {
  if (scope === undefined) return undefined;
  return CLASS_OF.find(([pattern]) => pattern.test(scope))?.[1];
}

function build(node: Scope, into: Node): void {
  for (const child of node.children) {
    if (typeof child === 'string') {
      into.appendChild(document.createTextNode(child));
      continue;
    }
    const name = classOf(child.scope);
    if (name === undefined) {
      build(child, into);
      continue;
    }
    const span = document.createElement('span');
    span.className = name;
    build(child, span);
    into.appendChild(span);
  }
}

/** Fills `code` with coloured text, or leaves it plain when the language is unknown or the text too long. */
export function light(code: HTMLElement, lang: string): void {
  const text = code.textContent ?? '';
  if (lang === '' || text.length > BYTES_MAX) return;
  if (api === undefined) {
    if (!asked) {
      asked = true;
      void load().catch(() => {
        asked = false;
      });
    }
    return;
  }
  if (api.getLanguage(lang) === undefined) return;
  const result = api.highlight(text, { language: lang, ignoreIllegals: true }) as unknown as {
    _emitter?: { rootNode?: Scope };
  };
  const root = result._emitter?.rootNode;
  if (root === undefined) return;
  code.replaceChildren();
  build(root, code);
}
