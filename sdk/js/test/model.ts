/**
 * A conversation as the server keeps it: the truth that the client's fold is held against. Written from the protocol,
 * not from the reducer: it knows the whole log and never forgets, so it can be plain.
 */
import type {
  By,
  DeltaEvent,
  DurableEvent,
  MsgEvent,
  OpenAnswer,
  RunAnswer,
  RunSnapshot,
  Snapshot,
} from '../src/types.js';

export interface Stored {
  offset: number;
  event: DurableEvent;
}
type Node = Omit<MsgEvent, 't'> & { offset: number; redacted?: string };

const AI: By = { kind: 'ai', id: 'p_1', name: 'Kit' };

export class ModelConversation {
  log: Stored[] = [];
  title = '';
  head: string | null = null;
  epoch = 'e1.g1';
  readonly runs = new Map<string, RunSnapshot>();
  readonly read: Record<string, number> = {};
  /** Text of a run that a snapshot gives at most; of a longer one it gives the end. */
  tail = Infinity;
  private ids = 0;
  private readonly nodes = new Map<string, Node>();
  private readonly kids = new Map<string, string[]>();

  constructor(
    readonly id: string,
    readonly owner: string,
  ) {}

  get top(): number {
    return this.log.length;
  }
  since(offset: number): Stored[] {
    return this.log.slice(offset);
  }
  node(id: string): Node | undefined {
    return this.nodes.get(id);
  }
  /** Every message that was ever said, on the shown path or off it. */
  said(): Node[] {
    return [...this.nodes.values()];
  }

  /** Last of the shown path, an answer that is promised on it included. */
  tip(): string | null {
    for (const r of this.runs.values()) if (r.m === this.head || r.parent === this.head) return r.m;
    return this.head;
  }

  say(user: string, text: string, cid?: string, parent: string | null = this.tip(), answered = true): Stored {
    const id = this.makeId('m');
    const event: MsgEvent = {
      t: 'msg',
      id,
      parent,
      by: { kind: 'user', id: user },
      text,
      status: 'complete',
      ts: this.top,
    };
    if (cid !== undefined) event.cid = cid;
    if (answered) {
      event.answer = { run: this.makeId('r'), msg: this.makeId('m'), persona: AI.id, model: 'default' };
      const busy = this.runs.size > 0;
      const { run, msg } = event.answer;
      return this.append(event, () => this.begin(run, msg, id, busy));
    }
    return this.append(event);
  }

  /** A new variant of an answer: a run event, then the head. */
  regenerate(msg: string): Stored[] {
    const parent = this.nodes.get(msg)!.parent!;
    const run = this.makeId('r');
    const next = this.makeId('m');
    return [
      this.append(
        {
          t: 'run',
          run,
          msg: next,
          parent,
          persona: AI.id,
          model: 'default',
          cause: 'regenerate',
          by: AI,
          ts: this.top,
        },
        () => this.begin(run, next, parent, this.runs.size > 0),
      ),
      this.append({ t: 'state', k: 'head', v: next, by: AI, ts: this.top }),
    ];
  }

  /** The run says more. */
  write(run: string, s: string): DeltaEvent {
    const r = this.runs.get(run)!;
    r.st = 'writing';
    const d: DeltaEvent = { t: 'd', r: run, m: r.m, p: r.text.length, s };
    r.text += s;
    r.p = r.text.length;
    return d;
  }

  end(run: string, status: MsgEvent['status'] = 'complete', why?: string): Stored {
    const r = this.runs.get(run)!;
    const event: MsgEvent = { t: 'msg', id: r.m, parent: r.parent, run, by: AI, text: r.text, status, ts: this.top };
    if (why !== undefined) event.why = why;
    return this.append(event);
  }

  state(k: string, v: unknown): Stored {
    return this.append({ t: 'state', k, v, by: AI, ts: this.top });
  }
  redact(msg: string, text?: string): Stored {
    return this.append({
      t: 'redact',
      msg,
      why: 'author',
      by: AI,
      ts: this.top,
      ...(text === undefined ? {} : { text }),
    });
  }

  /** A copy of the store that lacks the last events takes over: another generation. Runs that lost their log are gone. */
  restore(top: number): void {
    const kept = this.log.slice(0, top);
    this.epoch = `${this.epoch.split('.')[0]}.g${Number(this.epoch.split('.g')[1]) + 1}`;
    this.log = [];
    this.head = null;
    this.title = '';
    this.nodes.clear();
    this.kids.clear();
    this.runs.clear();
    for (const { event } of kept) {
      const e = event;
      if (e.t === 'msg' && e.answer !== undefined) {
        const { run, msg } = e.answer;
        this.append(e, () => this.begin(run, msg, e.id, false));
      } else if (e.t === 'run') this.append(e, () => this.begin(e.run, e.msg, e.parent, false));
      else this.append(e);
    }
  }

  path(): Node[] {
    const path: Node[] = [];
    for (let at = this.head; at !== null;) {
      const node = this.nodes.get(at);
      if (node !== undefined) {
        path.unshift({ ...node });
        at = node.parent;
        continue;
      }
      const run = [...this.runs.values()].find((r) => r.m === at);
      if (run === undefined) throw new Error(`the path of the model is broken at ${at}`);
      at = run.parent;
    }
    return path;
  }

  /** Ids that hang on a message, promised ones included, oldest first. */
  children(id: string): string[] {
    return (this.kids.get(id) ?? []).slice();
  }
  siblings(id: string): string[] {
    return (this.kids.get(this.nodes.get(id)!.parent ?? '') ?? []).slice();
  }

  /** The cursor names a message of the path: with queued messages, the path is not in the order of offsets. */
  open(limit = 50, before?: number): OpenAnswer {
    const whole = this.path();
    const path =
      before === undefined
        ? whole
        : whole.slice(
            0,
            Math.max(
              0,
              whole.findIndex((m) => m.offset === before),
            ),
          );
    const page = path.slice(-limit);
    const answer: OpenAnswer = {
      conv: {
        id: this.id,
        title: this.title,
        mode: 'ai',
        offset: this.top,
        epoch: this.epoch,
        created: 1,
        updated: this.top,
        persona: AI.id,
      },
      messages: page.map((m) => ({ ...m, siblings: this.siblings(m.id) })),
      offset: this.top,
      epoch: this.epoch,
    };
    if (path.length > page.length) answer.next = page[0]!.offset;
    return structuredClone(answer);
  }

  snapshot(): Snapshot {
    const runs = [...this.runs.values()].map((r) => {
      const p0 = r.text.length - this.tail;
      return p0 > 0 ? { ...r, text: r.text.slice(p0), p0 } : r;
    });
    return structuredClone({ as_of: this.top, mode: 'ai', title: this.title, typing: [], read: this.read, runs });
  }

  /** What run.get answers; undefined = not found. */
  get(run: string): RunAnswer | undefined {
    const active = this.runs.get(run);
    if (active !== undefined) return structuredClone(active);
    const node = [...this.nodes.values()].find((m) => m.run === run);
    return node === undefined ? undefined : { msg: { t: 'msg', ...structuredClone(node) } };
  }

  private makeId(letter: string): string {
    return `${letter}_${String(++this.ids).padStart(4, '0')}`;
  }

  private begin(r: string, m: string, parent: string, busy: boolean): void {
    this.runs.set(r, { r, m, parent, by: AI, st: busy ? 'queued' : 'thinking', text: '', p: 0 });
    this.addKid(parent, m);
  }

  private addKid(parent: string | null, id: string): void {
    const group = this.kids.get(parent ?? '') ?? [];
    if (!group.includes(id)) group.push(id);
    this.kids.set(parent ?? '', group);
  }

  private append(event: DurableEvent, then?: () => void): Stored {
    const stored = { offset: this.log.length + 1, event };
    this.log.push(stored);
    if (event.t === 'msg') {
      const promised = [...this.runs.values()].find((r) => r.m === event.parent);
      const extended = event.parent === this.head || (promised !== undefined && promised.parent === this.head);
      if (extended) this.head = event.id;
      if (event.run !== undefined) this.runs.delete(event.run);
      const { t: _t, ...rest } = event;
      this.nodes.set(event.id, { ...rest, offset: stored.offset });
      this.addKid(event.parent, event.id);
    }
    if (event.t === 'state' && event.k === 'head') this.head = event.v as string;
    if (event.t === 'state' && event.k === 'title') this.title = event.v as string;
    if (event.t === 'redact') {
      const node = this.nodes.get(event.msg);
      if (node !== undefined) this.nodes.set(event.msg, { ...node, text: event.text ?? '', redacted: event.why });
    }
    then?.();
    return stored;
  }
}

/** Random numbers that a seed repeats (mulberry32). */
export function makeRandom(seed: number): { (): number; below(n: number): number; pick<T>(list: readonly T[]): T } {
  let a = seed >>> 0;
  const next = (): number => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n: number): number => Math.floor(next() * n);
  return Object.assign(next, { below, pick: <T>(list: readonly T[]): T => list[below(list.length)]! });
}
