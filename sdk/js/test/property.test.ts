/**
 * Whatever is cut, doubled, lost, reordered or asked too early: in the end the client shows what the log says, and on
 * the way it never shows text that the answer does not begin with.
 */
import { describe, expect, it } from 'vitest';
import { emptyFold, fold } from '../src/reducer.js';
import type { Action, Fold } from '../src/reducer.js';
import type { RunAnswer } from '../src/types.js';
import { makeRandom, ModelConversation } from './model.js';
import type { Stored } from './model.js';

const WORDS = ['Hello ', 'Ada, ', 'how ', 'are you? ', '👩‍🚀 ', 'naïve ', '𝒜𝓃𝓃𝒶 ', '日本語 ', '\n\n```js\n', 'x'];

interface Options {
  loss: boolean;
  restore: boolean;
  limit: number;
}

/** One client on one line to one model server, step by step, all chance from one seed. */
class World {
  readonly random;
  readonly server = new ModelConversation('c_1', 'u_1');
  state: Fold = emptyFold('c_1', 'u_1');
  now = 0;
  private connected = false;
  private position: { offset: number; epoch: string } | undefined;
  /** What the server has sent and the client has not read: in order. */
  private wire: Action[] = [];
  /** Ephemeral events that take a longer way. */
  private strays: Action[] = [];
  private asked: string[] = [];
  private requests: { kind: 'open' | 'older' | 'run'; run?: string; before?: number }[] = [];
  reopened = 0;

  constructor(
    seed: number,
    private readonly options: Options,
  ) {
    this.random = makeRandom(seed);
    if (options.limit < 50) this.server.tail = 20;
  }

  /* the server's side */

  act(): void {
    const { random, server } = this;
    const runs = [...server.runs.keys()];
    const answers = server.path().filter((m) => m.by.kind === 'ai');
    const roll = random.below(100);
    if (roll < 18 && server.runs.size < 4)
      this.publish([server.say(random.pick(['u_1', 'u_2']), `q${server.top}`, `cid${server.top}`)]);
    else if (roll < 70 && runs.length > 0)
      this.ephemeral(server.write(random.pick(runs), random.pick(WORDS).repeat(1 + random.below(3))));
    else if (roll < 82 && runs.length > 0)
      this.publish([server.end(runs[0]!, random.pick(['complete', 'stopped', 'failed']))]);
    else if (roll < 87 && answers.length > 0) this.publish(server.regenerate(random.pick(answers).id));
    else if (roll < 90) this.pickSibling();
    else if (roll < 92) this.publish([server.state('title', `title ${server.top}`)]);
    else if (roll < 94 && answers.length > 0)
      this.publish([server.redact(random.pick(server.said()).id, random.pick([undefined, 'changed']))]);
    else if (roll < 95) this.edit();
    else if (roll < 96 && this.options.restore && server.top > 3) this.restore();
    else if (runs.length > 0) this.ephemeral({ t: 'st', r: random.pick(runs), st: 'tool' });
  }

  private pickSibling(): void {
    const path = this.server.path();
    if (path.length === 0) return;
    const ended = this.server.siblings(this.random.pick(path).id).filter((id) => this.server.node(id) !== undefined);
    if (ended.length > 0) this.publish([this.server.state('head', this.leafOf(this.random.pick(ended)))]);
  }

  /** Showing a variant shows what follows it: the newest child, and so on. */
  private leafOf(id: string): string {
    const child = this.server.children(id).pop();
    return child === undefined ? id : this.leafOf(child);
  }

  private edit(): void {
    const mine = this.server.path().filter((m) => m.by.kind === 'user');
    if (mine.length === 0) return;
    const old = this.random.pick(mine);
    const said = this.server.say('u_1', `edit of ${old.text}`, `cid${this.server.top}`, old.parent);
    this.publish([said, this.server.state('head', (said.event as { id: string }).id)]);
  }

  private restore(): void {
    this.server.restore(this.server.top - 1 - this.random.below(3));
    this.cut();
  }

  private publish(events: Stored[]): void {
    if (!this.connected) return;
    for (const { offset, event } of events) {
      this.wire.push({ kind: 'publication', data: event, offset, now: this.now });
      // A node elsewhere may send one twice.
      if (this.options.loss && this.random.below(20) === 0)
        this.wire.push({ kind: 'publication', data: event, offset, now: this.now });
    }
  }

  private ephemeral(data: unknown): void {
    if (!this.connected) return;
    const action: Action = { kind: 'publication', data, now: this.now };
    const fate = this.options.loss ? this.random.below(100) : 100;
    if (fate < 15) return;
    if (fate < 25) this.strays.push(action);
    if (fate < 35) this.wire.push(action);
    if (fate >= 35 || fate >= 25) this.wire.push(action);
  }

  /* the line */

  cut(): void {
    if (!this.connected) return;
    this.connected = false;
    this.wire = [];
    this.strays = [];
    this.requests = [];
    this.asked = [];
    this.hear({ kind: 'line', online: false });
  }

  connect(): void {
    if (this.connected) return;
    this.connected = true;
    this.hear({ kind: 'line', online: true });
    const { server } = this;
    const p = this.position;
    const recovered = p !== undefined && p.epoch === server.epoch && p.offset <= server.top && this.random.below(4) > 0;
    const position = recovered ? p : { offset: server.top, epoch: server.epoch };
    this.position = { ...position };
    const subscribed: Action = {
      kind: 'subscribed',
      snapshot: server.snapshot(),
      position: { ...position },
      recovered,
      now: this.now,
    };
    this.wire.push(subscribed);
    if (recovered) this.publish(server.since(p.offset));
  }

  /** The server reads one request; its answer queues behind what was sent before. */
  serve(): void {
    const q = this.requests.shift();
    if (q === undefined) return;
    if (q.kind === 'open')
      this.wire.push({ kind: 'opened', answer: this.server.open(this.options.limit), now: this.now });
    else if (q.kind === 'older')
      this.wire.push({ kind: 'older', answer: this.server.open(this.options.limit, q.before) });
    else {
      const answer: RunAnswer | undefined = this.server.get(q.run!);
      this.wire.push(answer === undefined ? { kind: 'runLost', run: q.run! } : { kind: 'run', run: q.run!, answer });
    }
  }

  /* the client's side */

  read(): void {
    const stray = this.strays.length > 0 && this.random.below(3) === 0;
    const action = stray ? this.strays.shift() : this.wire.shift();
    if (action === undefined) return;
    if (action.kind === 'publication' && action.offset !== undefined && this.position !== undefined)
      this.position.offset = Math.max(this.position.offset, action.offset);
    if (action.kind === 'opened') {
      this.asked = this.asked.filter((x) => x !== 'open');
      this.reopened++;
    }
    if (action.kind === 'older') this.asked = this.asked.filter((x) => x !== 'older');
    if (action.kind === 'run' || action.kind === 'runLost') this.asked = this.asked.filter((x) => x !== action.run);
    this.hear(action);
  }

  older(): void {
    if (!this.connected || !this.state.older || this.asked.includes('older') || this.asked.includes('open')) return;
    this.asked.push('older');
    this.requests.push({ kind: 'older', before: this.state.next as number });
  }

  private hear(action: Action): void {
    this.now++;
    const before = this.state;
    this.state = fold(before, action);
    this.check(before, action);
    if (!this.connected) return;
    if (this.state.needOpen && !this.asked.includes('open')) {
      this.asked.push('open');
      this.requests.push({ kind: 'open' });
    }
    if (!this.state.subscribed) return;
    for (const run of this.state.needRuns) {
      if (this.asked.includes(run)) continue;
      this.asked.push(run);
      this.requests.push({ kind: 'run', run });
    }
  }

  private check(before: Fold, action: Action): void {
    const s = this.state;
    // After a restore, what is shown is of the log that was, until the client has heard.
    if (s.epoch === this.server.epoch && s.subEpoch === this.server.epoch)
      for (const r of s.runs) {
        const live = this.server.runs.get(r.run);
        const whole = live?.text ?? this.server.said().find((m) => m.run === r.run)?.text;
        const redacted = this.server.said().find((m) => m.run === r.run)?.redacted !== undefined;
        if (whole !== undefined && !redacted && !whole.startsWith(r.text, s.live.get(r.run)!.base))
          throw new Error(`shown ${JSON.stringify(r.text)} is not the beginning of ${JSON.stringify(whole)}`);
      }
    if (action.kind !== 'opened' && s.offset < before.offset) throw new Error('the offset went back');
    const ids = s.messages.map((m) => m.id);
    if (new Set(ids).size !== ids.length) throw new Error('a message is shown twice');
    for (let i = 1; i < s.messages.length; i++) {
      const m = s.messages[i]!;
      const linked = m.parent === s.messages[i - 1]!.id || s.links.get(m.parent ?? '') === s.messages[i - 1]!.id;
      if (!linked) throw new Error(`${m.id} does not follow ${s.messages[i - 1]!.id}`);
    }
  }

  /** Everything ends, and everything arrives. */
  finish(): void {
    this.connect();
    while (this.server.runs.size > 0) this.publish([this.server.end([...this.server.runs.keys()][0]!)]);
    for (let quiet = 0, steps = 0; quiet < 3; steps++) {
      if (steps > 5000) throw new Error('the client asks without end');
      quiet = this.wire.length + this.strays.length + this.requests.length === 0 ? quiet + 1 : 0;
      this.serve();
      this.read();
      if (quiet > 0 && this.state.older) {
        this.older();
        quiet = 0;
      }
    }
  }
}

function live(world: World, steps: number): void {
  world.connect();
  for (let i = 0; i < steps; i++) {
    const roll = world.random.below(100);
    if (roll < 35) world.act();
    else if (roll < 75) world.read();
    else if (roll < 92) world.serve();
    else if (roll < 94) world.older();
    else if (roll < 97) world.cut();
    else world.connect();
  }
  world.finish();
}

function expectTruth(world: World, note: string): void {
  const { state, server } = world;
  const shown = state.messages.map(({ siblings, ...m }) => ({ ...m, siblings }));
  const truth = server.path().map((m) => ({ ...m, siblings: server.siblings(m.id) }));
  expect(shown, note).toEqual(truth);
  expect(state.runs, note).toEqual([]);
  expect(
    { offset: state.offset, epoch: state.epoch, title: state.title, phase: state.phase, need: state.needOpen },
    note,
  ).toEqual({ offset: server.top, epoch: server.epoch, title: server.title, phase: 'live', need: false });
}

const SEEDS = Number(process.env.KITH_SEEDS ?? 60);

describe('the fold of what was heard is the fold of the log', () => {
  const kinds: [string, Options][] = [
    ['a line that only cuts', { loss: false, restore: false, limit: 50 }],
    ['ephemeral events lost, doubled and reordered', { loss: true, restore: false, limit: 50 }],
    ['small pages', { loss: true, restore: false, limit: 3 }],
    ['a store that is restored', { loss: true, restore: true, limit: 4 }],
  ];
  it.each(kinds)('%s', (_name, options) => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const note = `seed ${seed}`;
      const world = new World(seed, options);
      try {
        live(world, 220);
      } catch (e) {
        throw new Error(`${note}: ${(e as Error).message}`, { cause: e });
      }
      expectTruth(world, note);
    }
  });

  it('who misses nothing holds the final text before the message that ends it', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const random = makeRandom(seed);
      const server = new ModelConversation('c_1', 'u_1');
      let s = emptyFold('c_1', 'u_1');
      const hear = (a: Action): void => {
        s = fold(s, a);
      };
      hear({ kind: 'line', online: true });
      hear({
        kind: 'subscribed',
        snapshot: server.snapshot(),
        position: { offset: 0, epoch: server.epoch },
        recovered: false,
        now: 0,
      });
      hear({ kind: 'opened', answer: server.open(), now: 0 });
      const said = server.say('u_1', 'q', 'c1');
      hear({ kind: 'publication', data: said.event, offset: said.offset, now: 0 });
      const run = [...server.runs.keys()][0]!;
      for (let i = 0; i < 60; i++) {
        const d = server.write(run, random.pick(WORDS));
        hear({ kind: 'publication', data: d, now: 0 });
        if (random.below(4) === 0) hear({ kind: 'publication', data: d, now: 0 });
      }
      expect(s.runs[0]!.text).toBe(server.runs.get(run)!.text);
      expect(s.runs[0]!.known).toBe(true);
    }
  });
});
