/** Where the client keeps what must outlive a reload. */
import type { Store } from './types.js';

/** Keeps everything in memory: for tests, and for a client that should forget. Values are copied in and out. */
export class MemoryStore implements Store {
  private readonly values = new Map<string, unknown>();

  async get<T>(key: string): Promise<T | undefined> {
    const value = this.values.get(key);
    return value === undefined ? undefined : (structuredClone(value) as T);
  }
  async set(key: string, value: unknown): Promise<void> {
    this.values.set(key, structuredClone(value));
  }
  async delete(key: string): Promise<void> {
    this.values.delete(key);
  }
  async keys(prefix: string): Promise<string[]> {
    return [...this.values.keys()].filter((k) => k.startsWith(prefix)).sort();
  }
}

/**
 * Keeps values in IndexedDB, in one object store of one database that all tabs of the origin share.
 *
 * `set` and `delete` resolve when the transaction is complete, so that what was set is there after a reload. Where the
 * browser gives no IndexedDB (some private windows), the values live in memory and are lost with the page; `durable`
 * tells. Errors of single calls (a full disk) reject with the browser's DOMException.
 */
export class IndexedDbStore implements Store {
  private database: Promise<IDBDatabase | undefined> | undefined;
  private readonly memory = new MemoryStore();

  /** @param name name of the database. @param factory the browser's `indexedDB`; given by tests. */
  constructor(
    private readonly name = 'kith',
    private readonly factory: IDBFactory | undefined = globalThis.indexedDB,
  ) {}

  /** Whether values outlive the page. */
  async durable(): Promise<boolean> {
    return (await this.open()) !== undefined;
  }

  async get<T>(key: string): Promise<T | undefined> {
    const database = await this.open();
    if (database === undefined) return this.memory.get<T>(key);
    return this.run(database, 'readonly', (s) => s.get(key)) as Promise<T | undefined>;
  }

  async set(key: string, value: unknown): Promise<void> {
    const database = await this.open();
    if (database === undefined) return this.memory.set(key, value);
    await this.run(database, 'readwrite', (s) => s.put(value, key));
  }

  async delete(key: string): Promise<void> {
    const database = await this.open();
    if (database === undefined) return this.memory.delete(key);
    await this.run(database, 'readwrite', (s) => s.delete(key));
  }

  async keys(prefix: string): Promise<string[]> {
    const database = await this.open();
    if (database === undefined) return this.memory.keys(prefix);
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    return (await this.run(database, 'readonly', (s) => s.getAllKeys(range))) as string[];
  }

  private open(): Promise<IDBDatabase | undefined> {
    this.database ??= new Promise((resolve) => {
      if (this.factory === undefined) return resolve(undefined);
      let request: IDBOpenDBRequest;
      try {
        request = this.factory.open(this.name, 1);
      } catch {
        return resolve(undefined);
      }
      request.onupgradeneeded = () => {
        request.result.createObjectStore('values');
      };
      request.onerror = () => resolve(undefined);
      request.onsuccess = () => {
        const database = request.result;
        // Another tab deletes or upgrades the database, or the browser closed it: open it anew at the next call.
        const forget = () => {
          this.database = undefined;
        };
        database.onversionchange = () => {
          database.close();
          forget();
        };
        database.onclose = forget;
        resolve(database);
      };
    });
    return this.database;
  }

  private run(
    database: IDBDatabase,
    mode: IDBTransactionMode,
    work: (s: IDBObjectStore) => IDBRequest,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const transaction = database.transaction('values', mode);
      const request = work(transaction.objectStore('values'));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error ?? request.error);
      transaction.onerror = () => reject(transaction.error ?? request.error);
    });
  }
}
