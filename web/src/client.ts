/** Where the page takes its client from: the one place that names the module's makers. */
import { createClient, IndexedDbStore, type KithClient, type Store } from '@kith/client';

export function openStore(): Store {
  return new IndexedDbStore('kith');
}

export function connect(store: Store): KithClient {
  return createClient({ store, name: 'kith-page' });
}
