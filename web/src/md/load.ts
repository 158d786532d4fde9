/**
 * The part of the page that reads markdown comes when the first answer does (or at once, where the address names a
 * conversation): an empty page needs none of it.
 */
import { signal } from '@preact/signals';

type Views = typeof import('./answer');

export const answers = signal<Views | undefined>(undefined);
/** Counts up when colours for code or maths have arrived: what was drawn plain is filled in. */
export const arrived = signal(0);
/** The renderer could not be loaded: text is shown as it was written. */
export const plain = signal(false);
let asked: Promise<void> | undefined;

export function loadAnswers(): Promise<void> {
  asked ??= import('./answer').then(
    (views) => {
      answers.value = views;
      plain.value = false;
    },
    () => {
      asked = undefined;
      plain.value = true;
    },
  );
  return asked;
}
