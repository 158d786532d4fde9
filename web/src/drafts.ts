/**
 * What is typed and not sent, per conversation. Written at each change (the newest wins, one write at a time), so that
 * a reload or a crash loses at most the last key. Sending clears it in every tab.
 */
import type { Store } from '@kith/client';

interface Cleared {
  t: 'draft.cleared';
  conv: string;
  text: string;
}

export class Drafts {
  #store: Store;
  #channel = typeof BroadcastChannel === 'undefined' ? undefined : new BroadcastChannel('kith.drafts');
  #pending = new Map<string, string>();
  #busy = false;
  /** Told when another tab has sent the draft that may stand in this tab's composer. */
  onCleared: (conv: string, text: string) => void = () => undefined;

  constructor(store: Store) {
    this.#store = store;
    this.#channel?.addEventListener('message', (event: MessageEvent<Cleared>) => {
      if (event.data.t === 'draft.cleared') this.onCleared(event.data.conv, event.data.text);
    });
  }

  async load(conv: string): Promise<string> {
    const pending = this.#pending.get(conv);
    if (pending !== undefined) return pending;
    try {
      return (await this.#store.get<string>(`draft:${conv}`)) ?? '';
    } catch {
      return '';
    }
  }

  save(conv: string, text: string): void {
    this.#pending.set(conv, text);
    if (!this.#busy) void this.#flush();
  }

  /** The text was sent: forget it here, in the store, and in all other tabs. */
  clear(conv: string, text: string): void {
    this.save(conv, '');
    this.#channel?.postMessage({ t: 'draft.cleared', conv, text } satisfies Cleared);
  }

  async #flush(): Promise<void> {
    this.#busy = true;
    try {
      for (let next = this.#pending.entries().next(); !next.done; next = this.#pending.entries().next()) {
        const [conv, text] = next.value;
        await (text === '' ? this.#store.delete(`draft:${conv}`) : this.#store.set(`draft:${conv}`, text));
        if (this.#pending.get(conv) === text) this.#pending.delete(conv);
      }
    } catch {
      this.#pending.clear();
    } finally {
      this.#busy = false;
    }
  }
}
