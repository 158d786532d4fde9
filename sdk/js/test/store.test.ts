import { IDBFactory, IDBKeyRange } from 'fake-indexeddb';
import { describe, expect, it } from 'vitest';
import { IndexedDbStore, MemoryStore } from '../src/store.js';
import type { Store } from '../src/types.js';

globalThis.IDBKeyRange = IDBKeyRange;

const kinds: [string, () => Store][] = [
  ['MemoryStore', () => new MemoryStore()],
  ['IndexedDbStore', () => new IndexedDbStore('kith', new IDBFactory())],
  ['IndexedDbStore without IndexedDB', () => new IndexedDbStore('kith', undefined)],
];

describe.each(kinds)('%s', (_name, make) => {
  it('gives back copies of what was set', async () => {
    const store = make();
    const value = { text: 'é', list: [1] };
    await store.set('a', value);
    value.list.push(2);
    expect(await store.get('a')).toEqual({ text: 'é', list: [1] });
    expect(await store.get('b')).toBeUndefined();
    await store.delete('a');
    await store.delete('a');
    expect(await store.get('a')).toBeUndefined();
  });
  it('lists the keys of a prefix, in order', async () => {
    const store = make();
    for (const k of ['x/2', 'x/1', 'y', 'x', 'x/', 'w']) await store.set(k, 1);
    expect(await store.keys('x/')).toEqual(['x/', 'x/1', 'x/2']);
  });
});

describe('IndexedDbStore', () => {
  it('is one store for all tabs, and outlives the page', async () => {
    const factory = new IDBFactory();
    const a = new IndexedDbStore('kith', factory);
    await a.set('k', 'v');
    const b = new IndexedDbStore('kith', factory);
    expect(await b.get('k')).toBe('v');
    expect(await b.durable()).toBe(true);
    expect(await new IndexedDbStore('kith', undefined).durable()).toBe(false);
  });
  it('opens anew after another tab deleted the database', async () => {
    const factory = new IDBFactory();
    const store = new IndexedDbStore('kith', factory);
    await store.set('k', 'v');
    await new Promise((resolve) => {
      factory.deleteDatabase('kith').onsuccess = resolve;
    });
    expect(await store.get('k')).toBeUndefined();
    await store.set('k', 'w');
    expect(await store.get('k')).toBe('w');
  });
  it('a browser that refuses leaves memory', async () => {
    const refusing = {
      open: () => {
        throw new DOMException('', 'SecurityError');
      },
    } as unknown as IDBFactory;
    const store = new IndexedDbStore('kith', refusing);
    await store.set('k', 1);
    expect(await store.get('k')).toBe(1);
  });
});
