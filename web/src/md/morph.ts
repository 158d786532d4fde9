/**
 * Makes one element like another with the fewest changes, so that selected text, scroll positions and focus inside the
 * block that grows are kept. Only ever used on the last block of an answer.
 */

/** What the reader has changed by hand stays: a wrapped code box keeps its wrapping while its text goes on. */
const READERS_OWN = new Set(['aria-pressed', 'data-wrap', 'data-copied']);

function morphAttributes(have: Element, want: Element): void {
  for (const { name, value } of Array.from(want.attributes)) {
    if (have.getAttribute(name) !== value && !(READERS_OWN.has(name) && have.hasAttribute(name)))
      have.setAttribute(name, value);
  }
  for (const { name } of Array.from(have.attributes)) {
    if (!want.hasAttribute(name) && !READERS_OWN.has(name)) have.removeAttribute(name);
  }
}

function alike(a: Node, b: Node): boolean {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName;
}

function morphText(have: Text, want: Text): void {
  if (have.data === want.data) return;
  if (want.data.startsWith(have.data)) have.appendData(want.data.slice(have.data.length));
  else have.data = want.data;
}

function morphChildren(have: Node, want: Node): void {
  let at = have.firstChild;
  for (const next of Array.from(want.childNodes)) {
    if (at !== null && alike(at, next)) {
      const after: ChildNode | null = at.nextSibling;
      morph(at, next);
      at = after;
    } else if (at !== null) {
      const after: ChildNode | null = at.nextSibling;
      at.replaceWith(next);
      at = after;
    } else {
      have.appendChild(next);
    }
  }
  while (at !== null) {
    const after: ChildNode | null = at.nextSibling;
    at.remove();
    at = after;
  }
}

/** `have` and `want` must be alike; `want` is used up. */
export function morph(have: Node, want: Node): void {
  if (have.nodeType === Node.TEXT_NODE) {
    morphText(have as Text, want as Text);
    return;
  }
  if (have.nodeType !== Node.ELEMENT_NODE) return;
  morphAttributes(have as Element, want as Element);
  morphChildren(have, want);
}

/** Makes the elements of `have` (the page's) those of `want`, in `parent` before `before`. Returns what stands there now. */
export function morphList(parent: Element, have: Element[], want: Element[], before: Node | null): Element[] {
  const out: Element[] = [];
  want.forEach((next, i) => {
    const now = have[i];
    if (now !== undefined && alike(now, next)) {
      morph(now, next);
      out.push(now);
    } else if (now !== undefined) {
      now.replaceWith(next);
      out.push(next);
    } else {
      parent.insertBefore(next, before);
      out.push(next);
    }
  });
  for (const rest of have.slice(want.length)) rest.remove();
  return out;
}
