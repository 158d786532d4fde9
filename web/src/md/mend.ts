/**
 * The open tail of an answer that is still being written, made whole for one frame.
 *
 * Markers whose meaning the next characters decide (the first backtick of three, a lone `- `, half of a closing `**`)
 * are held back; what is certainly begun (bold, code, a link's text, a table's head) is closed. The stored text is
 * never touched: this runs anew for each frame on the last block only.
 */
import remend from 'remend';

/** A last line that is nothing but the start of a marker: held back until it says what it is. */
const LONE_MARKER =
  /(^|\n)[ \t]*(?:(?:>[ \t]*)*(?:[-+*_=]+|#{1,6}|\d{1,9}[.)]?|`{1,2}|~{1,3}|:?-[-|: ]*)?[ \t]*(?:\[[ xX]?\]?[ \t]*)?)$/;
/** Marks at the very end that may open, close, or grow into a longer one. A backslash may escape what follows. */
const TRAILING_MARK = /(?:[*_~`$]{1,3}|!?\[|\\|!)$/;
/** Half of a tag we know, of a character reference, or of a bare address. */
const TRAILING_HALF = /(?:<\/?[a-z]{0,6}\s*\/?|&#?[a-zA-Z0-9]{0,10})$/;
/** `[text]` at the end: the next character says whether it is a link. */
const TRAILING_LINK = /(!?)\[([^[\]\n]*)\]$/;
/** A row that opens a table; its second line has not said so yet. */
const TABLE_HEAD = /(^|\n)([ \t]*\|[^\n]*)(?:\n[ \t]*[|:\- \t]*)?$/;

function cells(row: string): number {
  const inner = row.trim().replace(/^\|/, '').replace(/\|$/, '');
  return inner.split(/(?<!\\)\|/).length;
}

/** Closes a table that has only its head: the row of dashes is added, or completed where it has begun. */
function mendTable(text: string): string | undefined {
  const found = TABLE_HEAD.exec(text);
  if (found === null) return undefined;
  const head = found[2] ?? '';
  const before = text.slice(0, found.index) + (found[1] ?? '');
  const lines = before.split('\n');
  const previous = lines[lines.length - 2];
  if (previous !== undefined && previous.trim().startsWith('|')) return undefined;
  if (/^[|\s]*$/.test(head)) return before;
  const whole = mendRow(head);
  return `${before}${whole}\n|${' --- |'.repeat(cells(whole))}`;
}

/** Ends open bold, code and links inside a table's last row, where a line's end would cut them off. */
function mendRow(text: string): string {
  const at = text.lastIndexOf('\n') + 1;
  const row = text.slice(at);
  const cell = row.lastIndexOf('|') + 1;
  return text.slice(0, at) + row.slice(0, cell) + mendInline(row.slice(cell));
}

/** An emphasis that ends in a space is none for the lexer; the space comes back with the next word. */
function mendInline(text: string): string {
  let kept = text;
  for (let turns = 0; turns < 4; turns++) {
    const shorter = kept
      .replace(TRAILING_HALF, '')
      .replace(TRAILING_MARK, '')
      .replace(TRAILING_LINK, (_all, image: string, inner: string) => (image === '' ? inner : ''));
    if (shorter === kept) break;
    kept = shorter;
  }
  return remend(kept.trimEnd(), {
    linkMode: 'text-only',
    katex: false,
    inlineKatex: false,
    setextHeadings: false,
    htmlTags: false,
  });
}

/** The last line may still turn out to belong to the list before it. */
export function undecided(raw: string): boolean {
  return /^\s*(?:\d{1,9}[.)]?|[-+*])[ \t]*$/.test(raw);
}

export function mend(raw: string): string {
  const lone = LONE_MARKER.exec(raw);
  const text = lone === null ? raw : raw.slice(0, lone.index);
  if (/^[ \t]*\|/m.test(text)) {
    const table = mendTable(text);
    if (table !== undefined) return table;
    if (/(^|\n)[ \t]*\|[^\n]*$/.test(text)) return mendRow(text);
  }
  return mendInline(text);
}
