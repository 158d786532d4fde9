/** @packageDocumentation The client of the kith conversation server. */
export * from './types.js';
export { Client, createClient } from './client.js';
export type { ClientOptions } from './client.js';
export { IndexedDbStore, MemoryStore } from './store.js';
export { makeCid } from './outbox.js';
export { emptyFold, fold, nextTick, TYPING_MS } from './reducer.js';
export type { Action, Fold } from './reducer.js';
