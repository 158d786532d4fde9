/**
 * The client: one line to the server, who I am, the list of conversations, and the conversations that are open.
 */
import { Centrifuge } from 'centrifuge';
import type { Options } from 'centrifuge';
import { ChannelConversation } from './conversation.js';
import type { Host } from './conversation.js';
import { makeCid, Outbox } from './outbox.js';
import { MemoryStore } from './store.js';
import { KithError } from './types.js';
import type {
  Conversation,
  ConversationSummary,
  Cursor,
  InboxEvent,
  KithClient,
  LineState,
  ListAnswer,
  Limits,
  Me,
  PersonaCard,
  Store,
} from './types.js';

export interface ClientOptions {
  /** `ws://` or `wss://` address of the server's `/connection/websocket`. In a page it may be left out: same origin. */
  url?: string;
  /** Where the guest's token and the outbox are kept. Memory when left out. */
  store?: Store;
  /** Connection JWT of the application. With neither `token` nor `getToken` the client comes as a guest. */
  token?: string;
  /** Fetches a connection JWT, at first and whenever the last one has expired. */
  getToken?: () => Promise<string>;
  /** WebSocket class where the platform has none (Node before 22). */
  websocket?: unknown;
  /** Name and version of the application, at most 16 and 64 bytes, for the server's log. */
  name?: string;
  version?: string;
  /** Milliseconds between tries to reconnect: the first, and the most. Defaults 300 and 10000. */
  reconnect_ms?: { min: number; max: number };
  /** Milliseconds after which the outcome of a command is unknown. Default 5000; the server answers within 4000. */
  command_ms?: number;
  /** Web Locks, by which tabs take turns. The browser's own when left out. */
  locks?: LockManager;
  /** Hears every publication of open conversations; `isNew` = a durable event that was folded now. For tests and tools. */
  onEvent?: (conv: string, data: unknown, offset: number | undefined, isNew: boolean) => void;
}

const TOKEN = 'token';
const GUEST_LOCK = 'kith/guest';
/** How long one tab may take to become a guest while the others wait for its token. */
const GUEST_LOCK_MS = 10_000;
const RENEW_MS = 60_000;
const COMMAND_MS = 5000;
const SURE_TRIES = 5;
const SURE_MS = 20_000;
const LIST_PAGE = 50;
const LIST_MAX = 200;
const DEFAULT_LIMITS: Limits = { text_bytes: 32768, parts: 16, file_bytes: 20971520 };

interface ConnectData {
  protocol: number;
  version: string;
  user: string;
  name?: string;
  guest?: boolean;
  token?: string;
  limits?: Partial<Limits>;
  personas?: PersonaCard[];
}

export class Client implements KithClient {
  private lineState: LineState = { is: 'closed', since: Date.now() };
  private mine: Me | undefined;
  private summaries: ConversationSummary[] = [];
  private readonly lineListeners = new Set<(l: LineState) => void>();
  private readonly meListeners = new Set<(m: Me) => void>();
  private readonly listListeners = new Set<(l: ConversationSummary[]) => void>();

  private readonly store: Store;
  private readonly outbox: Outbox;
  private readonly host: Host;
  private readonly conversations = new Map<string, ChannelConversation>();
  private centrifuge: Centrifuge | undefined;
  /** Counts lines: what belongs to an older one is not listened to. */
  private turn = 0;
  private wanted = false;
  private guestToken = '';
  /** When a worthless guest's token was last dropped. */
  private renewed = -Infinity;

  private next: Cursor | undefined;
  private listed = false;
  private listing: InboxEvent[] | undefined;
  private listAgain: ReturnType<typeof setTimeout> | undefined;
  private inboxHeard = false;
  private readonly running = new Map<string, Set<string>>();

  constructor(private readonly options: ClientOptions = {}) {
    this.store = options.store ?? new MemoryStore();
    const client = this;
    this.outbox = new Outbox({
      store: this.store,
      locks: options.locks ?? (globalThis.navigator as Navigator | undefined)?.locks,
      online: () => this.lineState.is === 'online',
      textBytes: () => this.mine?.limits.text_bytes ?? DEFAULT_LIMITS.text_bytes,
      send: (conv, message) => this.call('chat.send', { conv, ...message }),
      changed: (conv) => this.outboxChanged(conv),
    });
    this.host = {
      get user() {
        return client.mine?.user ?? '';
      },
      get online() {
        return client.lineState.is === 'online';
      },
      outbox: this.outbox,
      call: (command, data) => this.call(command, data),
      callSurely: (command, data) => this.callSurely(command, data),
      onEvent: (conv, data, offset, isNew) => options.onEvent?.(conv, data, offset, isNew),
      onRead: (conv, offset) => this.readHere(conv, offset),
      left: (conv) => {
        this.conversations.delete(conv);
      },
    };
    void this.outbox.load();
  }

  get line(): LineState {
    return this.lineState;
  }
  get me(): Me | undefined {
    return this.mine;
  }
  get list(): ConversationSummary[] {
    return this.summaries;
  }

  onLine(f: (l: LineState) => void): () => void {
    return listen(this.lineListeners, f);
  }
  onMe(f: (m: Me) => void): () => void {
    return listen(this.meListeners, f);
  }
  onList(f: (l: ConversationSummary[]) => void): () => void {
    return listen(this.listListeners, f);
  }

  connect(): void {
    if (this.wanted && this.lineState.is === 'offline' && this.centrifuge !== undefined) {
      // Somebody does not want to wait for the next try.
      this.setLine('connecting');
      const line = this.centrifuge;
      this.turn++;
      line.disconnect();
      this.listenTo(line);
      line.connect();
      return;
    }
    if (this.wanted && this.lineState.is !== 'closed') return;
    this.wanted = true;
    this.renewed = -Infinity;
    this.setLine('connecting');
    void this.start();
  }

  close(): void {
    this.wanted = false;
    for (const c of [...this.conversations.values()]) c.close();
    this.outbox.close();
    clearTimeout(this.listAgain);
    this.dropLine();
    this.setLine('closed', 0, 'closed by this side');
  }

  conversation(id: string): Conversation {
    const known = this.conversations.get(id);
    if (known !== undefined) return known;
    const made = new ChannelConversation(id, this.host);
    this.conversations.set(id, made);
    if (this.centrifuge !== undefined) made.attach(this.centrifuge);
    made.setLine(this.host.online);
    return made;
  }

  async create(options?: { title?: string; persona?: string }): Promise<string> {
    const answer = await this.callSurely<{ conv: { id: string } }>('conv.create', { cid: makeCid(), ...options });
    return answer.conv.id;
  }

  async rename(conv: string, title: string): Promise<void> {
    await this.callSurely('conv.update', { conv, title });
    const known = this.summaries.find((x) => x.id === conv);
    if (known !== undefined) this.setList(this.summaries.map((x) => (x === known ? { ...x, title } : x)));
  }

  async remove(conv: string): Promise<void> {
    try {
      await this.callSurely('conv.delete', { conv });
    } catch (e) {
      // It is what was wanted.
      if (!(e instanceof KithError && e.code === 404)) throw e;
    }
    this.onInbox({ t: 'conv.gone', conv });
  }

  async loadMoreList(): Promise<void> {
    const before = this.next;
    if (before === undefined) return;
    const answer = await this.call<ListAnswer>('conv.list', { limit: LIST_PAGE, before });
    if (before !== this.next) return;
    this.next = answer.next;
    const known = new Set(this.summaries.map((x) => x.id));
    this.setList([...this.summaries, ...answer.items.filter((x) => !known.has(x.id)).map((x) => this.withRunning(x))]);
  }

  async call<T = unknown>(command: string, data: unknown): Promise<T> {
    if (this.centrifuge === undefined) throw new KithError(3, 'The client is not connected.', true);
    try {
      return (await this.centrifuge.rpc(command, data)).data as T;
    } catch (e) {
      throw toKithError(e);
    }
  }

  /** For commands that may be asked twice: while the outcome is unknown, the same question again. */
  private async callSurely<T>(command: string, data: unknown): Promise<T> {
    const until = Date.now() + SURE_MS;
    for (let tries = 1; ; tries++) {
      try {
        return await this.call<T>(command, data);
      } catch (e) {
        const over = tries >= SURE_TRIES || Date.now() >= until || !this.wanted;
        if (!(e instanceof KithError) || !e.temporary || over) throw e;
        await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** tries * (0.5 + Math.random() / 2)));
      }
    }
  }

  /* ---- the line ----------------------------------------------------------------------------------------------- */

  private get isGuest(): boolean {
    return this.options.token === undefined && this.options.getToken === undefined;
  }

  /** Makes a line. A guest without a token gets one first, and only one of several tabs does. */
  private async start(): Promise<void> {
    const turn = ++this.turn;
    if (!this.isGuest) return this.makeLine();
    this.guestToken = await this.readToken();
    if (turn !== this.turn || !this.wanted) return;
    const locks = this.options.locks ?? (globalThis.navigator as Navigator | undefined)?.locks;
    if (this.guestToken !== '' || locks === undefined) return this.makeLine();
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), GUEST_LOCK_MS);
    let begun = false;
    const first = async (): Promise<void> => {
      begun = true;
      clearTimeout(timer);
      this.guestToken = await this.readToken();
      if (turn !== this.turn || !this.wanted) return;
      this.makeLine();
      if (this.guestToken === '') await this.guestMade();
    };
    try {
      await locks.request(GUEST_LOCK, { signal: patience.signal }, first);
    } catch {
      if (!begun && turn === this.turn && this.wanted) this.makeLine();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Resolves when the token of a new guest is stored, when the line gave up, or after a while. */
  private guestMade(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        stop();
        resolve(this.tokenStored);
      };
      const timer = setTimeout(done, GUEST_LOCK_MS);
      const stop = this.onLine((l) => {
        if (l.is === 'online' || l.is === 'closed') done();
      });
    });
  }
  private tokenStored: Promise<void> = Promise.resolve();

  private async readToken(): Promise<string> {
    try {
      return (await this.store.get<string>(TOKEN)) ?? '';
    } catch {
      return '';
    }
  }

  private makeLine(): void {
    this.dropLine();
    const { url, websocket, name, version, reconnect_ms, command_ms, token, getToken } = this.options;
    const settings: Partial<Options> = {
      name: name ?? 'kith-js',
      timeout: command_ms ?? COMMAND_MS,
      minReconnectDelay: reconnect_ms?.min ?? 300,
      maxReconnectDelay: reconnect_ms?.max ?? 10_000,
    };
    if (version !== undefined) settings.version = version;
    if (websocket !== undefined) settings.websocket = websocket;
    const known = this.isGuest ? this.guestToken : token;
    if (known !== undefined && known !== '') settings.token = known;
    if (getToken !== undefined) settings.getToken = getToken;
    const line = new Centrifuge(url ?? sameOrigin(), settings);
    this.centrifuge = line;
    this.listenTo(line);
    for (const c of this.conversations.values()) c.attach(line);
    line.connect();
  }

  private listenTo(line: Centrifuge): void {
    const turn = ++this.turn;
    line.removeAllListeners();
    // What a handler throws would end the connection; nothing here does, and listeners are guarded.
    const on =
      <A extends unknown[]>(f: (...a: A) => void) =>
      (...a: A): void => {
        if (turn === this.turn) f(...a);
      };
    line.on(
      'connecting',
      on((ctx) => {
        if (ctx.code !== 0) this.wentOffline(ctx.code, ctx.reason);
      }),
    );
    line.on(
      'connected',
      on((ctx) => this.onConnected((ctx.data as { kith?: ConnectData } | undefined)?.kith)),
    );
    line.on(
      'disconnected',
      on((ctx) => this.onDisconnected(ctx.code, ctx.reason)),
    );
    line.on(
      'error',
      on((ctx) => {
        // A stored token that has expired: there is no way to renew a guest's, so come as a new one.
        if (ctx.error.code === 109 && this.isGuest)
          queueMicrotask(on(() => this.onDisconnected(3500, 'token expired')));
        else if (line.state === 'connecting') this.wentOffline(ctx.error.code, ctx.error.message);
      }),
    );
    line.on(
      'subscribed',
      on((ctx) => {
        if (!ctx.channel.startsWith('#')) return;
        this.inboxHeard = true;
        if (!(ctx.wasRecovering && ctx.recovered && this.listed)) this.relist();
      }),
    );
    line.on(
      'publication',
      on((ctx) => {
        if (ctx.channel.startsWith('#')) this.onInbox(ctx.data as InboxEvent);
      }),
    );
  }

  private dropLine(): void {
    const line = this.centrifuge;
    this.centrifuge = undefined;
    this.turn++;
    if (line === undefined) return;
    line.removeAllListeners();
    line.disconnect();
  }

  private onConnected(data: ConnectData | undefined): void {
    this.inboxHeard = false;
    if (data?.token !== undefined && data.token !== '' && this.isGuest) {
      this.guestToken = data.token;
      this.centrifuge?.setToken(data.token);
      this.tokenStored = this.store.set(TOKEN, data.token).catch(() => undefined);
    }
    const user = data?.user ?? '';
    if (this.mine !== undefined && this.mine.user !== user) this.forgetList();
    const me: Me = {
      user,
      guest: data?.guest ?? false,
      version: data?.version ?? '',
      limits: { ...DEFAULT_LIMITS, ...data?.limits },
    };
    if (data?.name !== undefined) me.name = data.name;
    if (data?.personas !== undefined) me.personas = data.personas;
    this.mine = me;
    for (const c of this.conversations.values()) c.setUser(user);
    this.setLine('online');
    tell(this.meListeners, me);
    // A user without an inbox hears of no list: it is asked for once per connection.
    const turn = this.turn;
    queueMicrotask(() => {
      if (turn === this.turn && !this.inboxHeard) this.relist();
    });
  }

  private wentOffline(code: number, reason: string): void {
    if (this.lineState.is !== 'offline') this.setLine('offline', code, reason);
  }

  private onDisconnected(code: number, reason: string): void {
    // The stored token of a guest is worth nothing any more (another secret, another server): come anew, once. A server
    // that takes no new guest either must not be asked over and over.
    const now = Date.now();
    const again = now - this.renewed < RENEW_MS;
    if (this.wanted && this.isGuest && this.guestToken !== '' && !again && (code === 3500 || code === 109)) {
      this.renewed = now;
      this.guestToken = '';
      const dropped = this.store.delete(TOKEN).catch(() => undefined);
      this.setLine('connecting', code, reason);
      this.dropLine();
      void dropped.then(() => {
        if (this.wanted) void this.start();
      });
      return;
    }
    this.wanted = false;
    this.setLine('closed', code, reason);
  }

  private setLine(is: LineState['is'], code?: number, reason?: string): void {
    const before = this.lineState.is;
    const state: LineState = { is, since: is === before ? this.lineState.since : Date.now() };
    if (code !== undefined) state.code = code;
    if (reason !== undefined) state.reason = reason;
    this.lineState = state;
    if (is !== before && (is === 'online' || before === 'online')) {
      for (const c of [...this.conversations.values()]) c.setLine(is === 'online');
      if (is === 'online') this.outbox.wake();
      else this.outbox.sleep();
    }
    tell(this.lineListeners, state);
  }

  private outboxChanged(conv: string): void {
    const shown = this.conversations.get(conv);
    if (shown !== undefined) return shown.outboxChanged();
    // Nobody looks at this conversation: what the server has accepted need not be seen in the log.
    for (const { cid } of this.outbox.accepted(conv)) this.outbox.confirm(conv, cid);
  }

  /* ---- the list ----------------------------------------------------------------------------------------------- */

  /** Asks for the list anew; what the inbox says meanwhile is put on top of the answer. */
  private relist(): void {
    clearTimeout(this.listAgain);
    const turn = this.turn;
    const heard: InboxEvent[] = [];
    this.listing = heard;
    const limit = Math.min(LIST_MAX, Math.max(LIST_PAGE, this.summaries.length));
    this.call<ListAnswer>('conv.list', { limit }).then(
      (answer) => {
        if (this.listing !== heard) return;
        this.listing = undefined;
        this.listed = true;
        this.next = answer.next;
        this.running.clear();
        this.setList(answer.items);
        for (const e of heard) this.onInbox(e);
      },
      () => {
        if (this.listing !== heard) return;
        this.listing = undefined;
        this.listed = false;
        if (turn === this.turn && this.host.online)
          this.listAgain = setTimeout(
            () => {
              if (this.host.online && turn === this.turn) this.relist();
            },
            1000 + Math.random() * 1000,
          );
      },
    );
  }

  private forgetList(): void {
    this.next = undefined;
    this.listed = false;
    this.listing = undefined;
    this.running.clear();
    this.setList([]);
  }

  private onInbox(e: InboxEvent): void {
    if (this.listing !== undefined) this.listing.push(e);
    switch (e?.t) {
      case 'conv': {
        const old = this.summaries.find((x) => x.id === e.conv.id);
        // An answer to conv.list may already be newer than an event that was on its way.
        if (old !== undefined && old.updated > e.conv.updated) return;
        this.setList([...this.summaries.filter((x) => x !== old), this.withRunning({ ...old, ...e.conv })]);
        return;
      }
      case 'conv.gone':
        this.running.delete(e.conv);
        this.conversations.get(e.conv)?.gone();
        if (this.summaries.some((x) => x.id === e.conv)) this.setList(this.summaries.filter((x) => x.id !== e.conv));
        return;
      case 'run': {
        const active = this.running.get(e.conv) ?? new Set<string>();
        if (e.on) active.add(e.run);
        else active.delete(e.run);
        this.running.set(e.conv, active);
        if (this.summaries.some((x) => x.id === e.conv && (x.running ?? false) !== active.size > 0))
          this.setList(this.summaries.map((x) => (x.id === e.conv ? this.withRunning(x) : x)));
        return;
      }
    }
  }

  private withRunning(x: ConversationSummary): ConversationSummary {
    return { ...x, running: (this.running.get(x.id)?.size ?? 0) > 0 };
  }

  /** What was read here is read, before the server says so. */
  private readHere(conv: string, offset: number): void {
    const known = this.summaries.find((x) => x.id === conv);
    if (known !== undefined && known.unread > 0 && offset >= known.head)
      this.setList(this.summaries.map((x) => (x === known ? { ...x, unread: 0 } : x)));
  }

  private setList(list: ConversationSummary[]): void {
    this.summaries = list.slice().sort((a, b) => b.updated - a.updated || (a.id < b.id ? 1 : -1));
    tell(this.listListeners, this.summaries);
  }
}

/** Makes a client. It is not connected until `connect()`. */
export function createClient(options: ClientOptions = {}): KithClient {
  return new Client(options);
}

function listen<T>(to: Set<(x: T) => void>, f: (x: T) => void): () => void {
  to.add(f);
  return () => {
    to.delete(f);
  };
}

/** A listener's mistake must not stop the connection; it is reported as any uncaught error. */
function tell<T>(to: Set<(x: T) => void>, x: T): void {
  for (const f of [...to]) {
    try {
      f(x);
    } catch (e) {
      queueMicrotask(() => {
        throw e;
      });
    }
  }
}

function sameOrigin(): string {
  const { protocol, host } = globalThis.location;
  return `${protocol === 'https:' ? 'wss:' : 'ws:'}//${host}/connection/websocket`;
}

/** Codes below 100 are the connection's own (timeout, closed): whether the command was done is then unknown. */
function toKithError(e: unknown): KithError {
  if (e instanceof KithError) return e;
  const {
    code = 0,
    message = String(e),
    temporary = false,
    field,
  } = (e ?? {}) as {
    code?: number;
    message?: string;
    temporary?: boolean;
    field?: string;
  };
  return new KithError(code, message, temporary || code < 100, field);
}
