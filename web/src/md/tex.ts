/** Maths as MathML, loaded with the first formula. What KaTeX cannot read stays as it was written. */
import { arrived } from './load';
import { safeMath } from './safe';

type Katex = typeof import('katex');
let api: Katex['default'] | undefined;
let asked = false;

async function load(): Promise<void> {
  const loaded = await import('katex');
  api = loaded.default;
  arrived.value++;
}

export function typeset(span: HTMLElement): void {
  if (span.dataset['open'] !== undefined) return;
  if (api === undefined) {
    if (!asked) {
      asked = true;
      void load().catch(() => {
        asked = false;
      });
    }
    return;
  }
  const source = span.textContent ?? '';
  try {
    const html = api.renderToString(source, {
      output: 'mathml',
      displayMode: span.dataset['tex'] === 'block',
      throwOnError: true,
      trust: false,
      strict: 'ignore',
      maxSize: 20,
      maxExpand: 200,
    });
    const math = safeMath(html).querySelector('math');
    if (math === null) return;
    math.setAttribute('aria-label', source);
    span.replaceChildren(math);
    span.classList.add('set');
  } catch {
    span.classList.add('plain');
  }
}
