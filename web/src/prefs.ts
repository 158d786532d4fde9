/** Settings of this browser: the theme is also read by the page's first lines, before anything is drawn. */
import { signal } from '@preact/signals';

export type Theme = 'system' | 'light' | 'dark';
export type SendKey = 'enter' | 'ctrl';

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    /* A browser that keeps nothing still shows the choice until it is closed. */
  }
}

const kept = read('kith.theme');
export const theme = signal<Theme>(kept === 'light' || kept === 'dark' ? kept : 'system');
export const sendKey = signal<SendKey>(read('kith.send') === 'ctrl' ? 'ctrl' : 'enter');

function paintTheme(value: Theme): void {
  const root = document.documentElement;
  if (value === 'system') delete root.dataset['theme'];
  else root.dataset['theme'] = value;
}

export function setTheme(value: Theme): void {
  theme.value = value;
  write('kith.theme', value);
  paintTheme(value);
}
export function setSendKey(value: SendKey): void {
  sendKey.value = value;
  write('kith.send', value);
}

/** Other tabs follow. */
export function watchPrefs(): void {
  addEventListener('storage', (event) => {
    if (event.key === 'kith.theme') {
      theme.value = event.newValue === 'light' || event.newValue === 'dark' ? event.newValue : 'system';
      paintTheme(theme.value);
    }
    if (event.key === 'kith.send') sendKey.value = event.newValue === 'ctrl' ? 'ctrl' : 'enter';
  });
}

export const coarse = typeof matchMedia === 'undefined' ? undefined : matchMedia('(pointer: coarse)');
