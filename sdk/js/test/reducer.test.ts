import { describe, expect, it } from 'vitest';
import { emptyFold, fold, nextTick, TYPING_MS } from '../src/reducer.js';
import type { Action, Fold } from '../src/reducer.js';
import type { By, DurableEvent, MsgEvent, Outgoing, RunSnapshot, Snapshot } from '../src/types.js';
import { ModelConversation } from './model.js';

const ME: By = { kind: 'user', id: 'u_me' };
const AI: By = { kind: 'ai', id: 'p_1', name: 'Kit' };

/** A client in step with `server`, subscribed and opened. */
function joined(server: ModelConversation): Fold {
  return hear(
    emptyFold('c_1', 'u_me'),
    { kind: 'line', online: true },
    {
      kind: 'subscribed',
      snapshot: server.snapshot(),
      position: { offset: server.top, epoch: server.epoch },
      recovered: false,
      now: 0,
    },
    { kind: 'opened', answer: server.open(), now: 0 },
  );
}
function hear(s: Fold, ...actions: Action[]): Fold {
  return actions.reduce(fold, s);
}
function durable(offset: number, data: unknown): Action {
  return { kind: 'publication', data, offset, now: 0 };
}
function ephemeral(data: unknown, now = 0): Action {
  return { kind: 'publication', data, now };
}
function log(server: ModelConversation, from: number): Action[] {
  return server.since(from).map((e) => durable(e.offset, e.event));
}
function question(id: string, parent: string | null, answer: string, cid = `cid-${id}`): MsgEvent {
  return {
    t: 'msg',
    id,
    parent,
    by: ME,
    text: `text ${id}`,
    status: 'complete',
    ts: 1,
    cid,
    answer: { run: `r_${answer}`, msg: answer, persona: 'p_1', model: 'default' },
  };
}
function answer(id: string, parent: string, text = `text ${id}`): MsgEvent {
  return { t: 'msg', id, parent, by: AI, text, status: 'complete', ts: 1, run: `r_${id}` };
}
function snapshot(asOf: number, ...runs: RunSnapshot[]): Snapshot {
  return { as_of: asOf, mode: 'ai', title: '', typing: [], read: {}, runs };
}
function d(m: string, p: number, s: string): Action {
  return ephemeral({ t: 'd', r: `r_${m}`, m, p, s });
}
const ids = (s: Fold): string[] => s.messages.map((m) => m.id);
const fresh = (): Fold => joined(new ModelConversation('c_1', 'u_me'));

describe('one turn', () => {
  it('is shown as the protocol tells it', () => {
    let s = hear(fresh(), durable(1, question('m_1', null, 'm_2')));
    expect(s.runs).toMatchObject([
      { run: 'r_m_2', msg: 'm_2', parent: 'm_1', st: 'thinking', text: '', known: true, by: { kind: 'ai', id: 'p_1' } },
    ]);
    s = hear(s, ephemeral({ t: 'st', r: 'r_m_2', st: 'queued', pos: 3, eta_ms: 900 }));
    expect(s.runs[0]).toMatchObject({ st: 'queued', pos: 3, eta_ms: 900 });
    s = hear(s, d('m_2', 0, 'Hello'), d('m_2', 5, ' Ada! '));
    expect(s.runs[0]).toMatchObject({ st: 'writing', text: 'Hello Ada! ' });
    expect(s.runs[0]).not.toHaveProperty('pos');
    s = hear(s, durable(2, answer('m_2', 'm_1', 'Hello Ada! ')));
    expect(s.runs).toEqual([]);
    expect(s.messages).toMatchObject([
      { id: 'm_1', offset: 1, siblings: ['m_1'] },
      { id: 'm_2', offset: 2, siblings: ['m_2'], text: 'Hello Ada! ' },
    ]);
    expect(s.phase).toBe('live');
  });
  it('a second question hangs on the promised answer, and waits', () => {
    let s = hear(fresh(), durable(1, question('m_1', null, 'm_2')), durable(2, question('m_3', 'm_2', 'm_4')));
    expect(ids(s)).toEqual(['m_1', 'm_3']);
    expect(s.runs.map((r) => [r.msg, r.parent, r.st])).toEqual([
      ['m_2', 'm_1', 'thinking'],
      ['m_4', 'm_3', 'queued'],
    ]);
    s = hear(s, durable(3, answer('m_2', 'm_1')));
    expect(ids(s)).toEqual(['m_1', 'm_2', 'm_3']);
    s = hear(s, durable(4, answer('m_4', 'm_3')));
    expect(ids(s)).toEqual(['m_1', 'm_2', 'm_3', 'm_4']);
    expect(s.needOpen).toBe(false);
  });
  it('an answer that says nothing ends its run all the same', () => {
    const s = hear(
      fresh(),
      durable(1, question('m_1', null, 'm_2')),
      durable(2, { ...answer('m_2', 'm_1', ''), status: 'failed', why: 'upstream' }),
    );
    expect(s.runs).toEqual([]);
    expect(s.messages[1]).toMatchObject({ text: '', status: 'failed', why: 'upstream' });
  });
});

describe('text of a run', () => {
  const start = (): Fold => hear(fresh(), durable(1, question('m_1', null, 'm_2')));
  it('that was heard already changes nothing, not even the object', () => {
    const s = hear(start(), d('m_2', 0, 'Hello'));
    expect(hear(s, d('m_2', 0, 'Hel'))).toBe(s);
    expect(hear(s, d('m_2', 1, 'ello'))).toBe(s);
  });
  it('that overlaps is laid over: have[0..p] + s', () => {
    expect(hear(start(), d('m_2', 0, 'Hello'), d('m_2', 3, 'lo Ada')).runs[0]!.text).toBe('Hello Ada');
  });
  it('after a gap is not shown, asked for, and joined when the gap closes', () => {
    let s = hear(start(), d('m_2', 0, 'a'), d('m_2', 3, 'd'), d('m_2', 4, 'e'));
    expect(s.runs[0]).toMatchObject({ text: 'a', known: false });
    expect(s.needRuns).toEqual(['r_m_2']);
    s = hear(s, d('m_2', 1, 'bc'));
    expect(s.runs[0]).toMatchObject({ text: 'abcde', known: true });
    expect(s.needRuns).toEqual([]);
  });
  it('run.get closes a gap without losing what came meanwhile', () => {
    const s = hear(start(), d('m_2', 0, 'a'), d('m_2', 3, 'd'), d('m_2', 4, 'e'), d('m_2', 6, 'g'), {
      kind: 'run',
      run: 'r_m_2',
      answer: { r: 'r_m_2', m: 'm_2', parent: 'm_1', by: AI, st: 'writing', text: 'abcd', p: 4 },
    });
    expect(s.runs[0]).toMatchObject({ text: 'abcde', known: false });
    expect(hear(s, d('m_2', 5, 'f')).runs[0]).toMatchObject({ text: 'abcdefg', known: true });
  });
  it('run.get that is older than what is shown takes nothing away', () => {
    const s = hear(start(), d('m_2', 0, 'abcdef'), {
      kind: 'run',
      run: 'r_m_2',
      answer: { r: 'r_m_2', m: 'm_2', parent: 'm_1', by: AI, st: 'thinking', text: 'abc', p: 3 },
    });
    expect(s.runs[0]).toMatchObject({ text: 'abcdef', st: 'writing' });
  });
  it('counts UTF-16 units', () => {
    const s = hear(start(), d('m_2', 0, '👩‍🚀'), d('m_2', 5, ' né '), d('m_2', 9, '𝒜'), d('m_2', 11, '.'));
    expect('👩‍🚀'.length).toBe(5);
    expect(s.runs[0]).toMatchObject({ text: '👩‍🚀 né 𝒜.', known: true });
  });
  it('of an unknown run is asked for, and shown when its place is known', () => {
    let s = hear(fresh(), d('m_9', 3, 'lo'));
    expect(s.runs).toEqual([]);
    expect(s.needRuns).toEqual(['r_m_9']);
    s = hear(s, {
      kind: 'run',
      run: 'r_m_9',
      answer: { r: 'r_m_9', m: 'm_9', parent: null as unknown as string, by: AI, st: 'writing', text: 'hel', p: 3 },
    });
    expect(s.runs[0]).toMatchObject({ text: 'hello', known: true });
    expect(s.needRuns).toEqual([]);
  });
  it('of a run that run.get does not know is not asked for again', () => {
    const s = hear(fresh(), d('m_9', 0, 'x'), { kind: 'runLost', run: 'r_m_9' }, d('m_9', 1, 'y'));
    expect(s.needRuns).toEqual([]);
  });
  it('that comes after its end is passed over', () => {
    const s = hear(start(), durable(2, answer('m_2', 'm_1', 'done')));
    expect(hear(s, d('m_2', 4, '!'))).toBe(s);
  });
  it('with a gap is of no interest any more when it has ended', () => {
    const s = hear(
      start(),
      d('m_2', 3, 'x'),
      durable(2, answer('m_2', 'm_1', 'done')),
      durable(3, question('m_3', 'm_2', 'm_4')),
    );
    expect(s.needRuns).toEqual([]);
    expect(s.runs).toMatchObject([{ msg: 'm_4', st: 'thinking' }]);
  });
  it('reasoning is not part of the answer', () => {
    expect(hear(start(), ephemeral({ t: 'd', r: 'r_m_2', m: 'm_2', p: 0, s: 'hmm', k: 'r' })).runs[0]!.text).toBe('');
  });
  it('that run.get finds ended is its final text, until its event comes', () => {
    const s = hear(start(), d('m_2', 0, 'a'), d('m_2', 5, 'f'), {
      kind: 'run',
      run: 'r_m_2',
      answer: { msg: { ...answer('m_2', 'm_1', 'abcdef'), offset: 2 } },
    });
    expect(s.runs[0]).toMatchObject({ text: 'abcdef', known: true });
    expect(s.messages.length).toBe(1);
  });
});

describe('the snapshot', () => {
  const run = (text: string, p0?: number): RunSnapshot => ({
    r: 'r_m_2',
    m: 'm_2',
    parent: 'm_1',
    by: AI,
    st: 'writing',
    text,
    p: (p0 ?? 0) + text.length,
    ...(p0 === undefined ? {} : { p0 }),
  });
  const again = (asOf: number, ...runs: RunSnapshot[]): Action => ({
    kind: 'subscribed',
    snapshot: snapshot(asOf, ...runs),
    position: { offset: 1, epoch: 'e1.g1' },
    recovered: true,
    now: 0,
  });
  const start = (): Fold => hear(fresh(), durable(1, question('m_1', null, 'm_2')), d('m_2', 0, 'Hel'));

  it('replaces the known runs', () => {
    expect(hear(start(), again(1, run('Hello A'))).runs).toMatchObject([{ text: 'Hello A' }]);
    expect(hear(start(), again(1)).runs).toEqual([]);
  });
  it('is ahead of the events that recovery delivers: none of them brings back a run that has ended', () => {
    const s = hear(start(), again(4), durable(2, answer('m_2', 'm_1')), durable(3, question('m_3', 'm_2', 'm_4')));
    expect(s.runs).toEqual([]);
    expect(ids(hear(s, durable(4, answer('m_4', 'm_3'))))).toEqual(['m_1', 'm_2', 'm_3', 'm_4']);
  });
  it('a long run continues what was known before p0', () => {
    expect(hear(start(), again(1, run('lo Ada', 3))).runs[0]).toMatchObject({ text: 'Hello Ada', known: true });
  });
  it('a long run whose beginning is not known is asked for', () => {
    let s = hear(start(), again(1, run('Ada', 6)));
    expect(s.runs[0]).toMatchObject({ text: 'Ada', known: false });
    expect(s.needRuns).toEqual(['r_m_2']);
    s = hear(s, d('m_2', 9, '!'), { kind: 'run', run: 'r_m_2', answer: run('Hello Ada') });
    expect(s.runs[0]).toMatchObject({ text: 'Hello Ada!', known: true });
  });
  it('sets the unread line once', () => {
    const server = new ModelConversation('c_1', 'u_me');
    server.say('u_2', 'one');
    server.read.u_me = 1;
    server.say('u_2', 'two');
    const s = joined(server);
    expect(s.unreadFrom).toBe(1);
    expect(hear(s, { kind: 'read', user: 'u_me', offset: 2 })).toMatchObject({ unreadFrom: 1, read: { u_me: 2 } });
  });
});

describe('durable events', () => {
  it('that were heard are ignored', () => {
    const s = hear(fresh(), durable(1, question('m_1', null, 'm_2')), durable(2, answer('m_2', 'm_1')));
    const again = hear(s, durable(1, question('m_1', null, 'm_2')), durable(2, answer('m_2', 'm_1', 'other')));
    expect(again.messages).toBe(s.messages);
    expect(again.runs).toEqual([]);
  });
  it('with a gap before them are kept back until conv.open has answered', () => {
    const server = new ModelConversation('c_1', 'u_me');
    let s = joined(server);
    server.say('u_me', 'one', 'c1', null, false);
    server.say('u_me', 'two', 'c2', undefined, false);
    const early = server.open();
    server.say('u_me', 'three', 'c3', undefined, false);
    s = hear(s, ...log(server, 1));
    expect(s).toMatchObject({ needOpen: true, messages: [], offset: 0, phase: 'stale' });
    s = hear(s, { kind: 'opened', answer: early, now: 0 });
    expect(s).toMatchObject({ needOpen: false, offset: 3, phase: 'live' });
    expect(s.messages.map((m) => m.text)).toEqual(['one', 'two', 'three']);
  });
  it('of an unknown kind count, and change nothing else', () => {
    const s = hear(
      fresh(),
      durable(1, { t: 'tool', run: 'r', call: 'k' }),
      durable(2, null),
      durable(3, 'x'),
      ephemeral(undefined),
      ephemeral({ t: 'new' }),
    );
    expect(s).toMatchObject({ offset: 3, messages: [], phase: 'live', needOpen: false });
  });
  it('redact replaces or erases', () => {
    const s = hear(
      fresh(),
      durable(1, question('m_1', null, 'm_2')),
      durable(2, { t: 'redact', msg: 'm_1', why: 'author', ts: 1, by: ME }),
    );
    expect(s.messages[0]).toMatchObject({ text: '', redacted: 'author', offset: 1 });
    expect(
      hear(s, durable(3, { t: 'redact', msg: 'm_1', text: 'better', why: 'author', ts: 1, by: ME })).messages[0]!.text,
    ).toBe('better');
  });
  it('redact corrects an older page that was read before it', () => {
    const server = new ModelConversation('c_1', 'u_me');
    for (let i = 0; i < 4; i++) server.say('u_me', `t${i}`, `c${i}`, undefined, false);
    let s = hear(
      emptyFold('c_1', 'u_me'),
      { kind: 'line', online: true },
      {
        kind: 'subscribed',
        snapshot: server.snapshot(),
        position: { offset: 4, epoch: server.epoch },
        recovered: false,
        now: 0,
      },
      { kind: 'opened', answer: server.open(2), now: 0 },
    );
    const page = server.open(2, 3);
    server.redact(server.path()[0]!.id);
    s = hear(s, ...log(server, 4), { kind: 'older', answer: page });
    expect(s.messages.map((m) => m.text)).toEqual(['', 't1', 't2', 't3']);
    expect(s.older).toBe(false);
  });
  it('state changes title and mode; losing the membership is the end', () => {
    let s = hear(
      fresh(),
      durable(1, { t: 'state', k: 'title', v: 'T', ts: 1, by: ME }),
      durable(2, { t: 'state', k: 'mode', v: { mode: 'human', agent: 'a' }, ts: 1, by: ME }),
    );
    expect(s).toMatchObject({ title: 'T', mode: 'human' });
    s = hear(s, durable(3, { t: 'state', k: 'member:u_other', v: null, ts: 1, by: ME }));
    expect(s.phase).toBe('live');
    expect(hear(s, durable(4, { t: 'state', k: 'member:u_me', v: null, ts: 1, by: ME })).phase).toBe('gone');
  });
});

describe('the tree', () => {
  const conversation = (): ModelConversation => {
    const server = new ModelConversation('c_1', 'u_me');
    server.say('u_me', 'q1', 'c1');
    server.end([...server.runs.keys()][0]!);
    return server;
  };
  it('a variant that another tab asked for takes the place of the shown one, as it is being made', () => {
    const server = conversation();
    let s = joined(server);
    const [m1, m2] = ids(s);
    const [began, head] = server.regenerate(m2!);
    s = hear(s, durable(began!.offset, began!.event));
    expect(ids(s)).toEqual([m1, m2]);
    expect(s.runs).toEqual([]);
    s = hear(s, durable(head!.offset, head!.event));
    expect(ids(s)).toEqual([m1]);
    const run = [...server.runs.values()][0]!;
    expect(s.runs).toMatchObject([{ run: run.r, parent: m1, siblings: [m2, run.m] }]);
    s = hear(s, ephemeral(server.write(run.r, 'new')), ...log(server, 4));
    server.end(run.r);
    s = hear(s, ...log(server, 4));
    expect(s.messages.map((m) => [m.id, m.siblings])).toEqual([
      [m1, [m1]],
      [run.m, [m2, run.m]],
    ]);
  });
  it('the head switches at once to a sibling that is loaded', () => {
    const server = conversation();
    let s = joined(server);
    const m2 = ids(s)[1]!;
    server.regenerate(m2);
    server.end([...server.runs.keys()][0]!);
    s = hear(s, ...log(server, 2));
    const back = server.state('head', m2);
    s = hear(s, durable(back.offset, back.event));
    expect(ids(s)[1]).toBe(m2);
    expect(s.needOpen).toBe(false);
  });
  it('the head switches to what is not loaded: the old path stays until conv.open has answered', () => {
    const server = conversation();
    const m2 = server.path()[1]!.id;
    server.regenerate(m2);
    server.end([...server.runs.keys()][0]!);
    let s = joined(server);
    const shown = s.messages;
    const back = server.state('head', m2);
    s = hear(s, durable(back.offset, back.event));
    expect(s.needOpen).toBe(true);
    expect(s.messages).toBe(shown);
    s = hear(s, { kind: 'opened', answer: server.open(), now: 0 });
    expect(ids(s)[1]).toBe(m2);
    expect(s.needOpen).toBe(false);
  });
  it('another branch where loading ended: the cursor is not for it, so it is opened anew', () => {
    const server = conversation();
    const m2 = server.path()[1]!.id;
    for (let i = 0; i < 3; i++) server.say('u_me', `t${i}`, `d${i}`, undefined, false);
    let s = hear(
      emptyFold('c_1', 'u_me'),
      { kind: 'line', online: true },
      {
        kind: 'subscribed',
        snapshot: server.snapshot(),
        position: { offset: server.top, epoch: server.epoch },
        recovered: false,
        now: 0,
      },
      { kind: 'opened', answer: server.open(3), now: 0 },
    );
    expect(s.boundary).toBe(m2);
    const said = server.say('u_me', 'edit of t0', 'e', m2, false);
    server.state('head', (said.event as MsgEvent).id);
    s = hear(s, ...log(server, 5));
    expect(s.needOpen).toBe(true);
    expect(s.messages).toHaveLength(3);
    s = hear(s, { kind: 'opened', answer: server.open(3), now: 0 });
    expect(s.messages.map((m) => m.text)).toEqual(['q1', '', 'edit of t0']);
    expect(s.older).toBe(false);
  });
  it('opened while a variant is written: the variants made before are learned when it ends', () => {
    const server = conversation();
    const m2 = server.path()[1]!.id;
    server.regenerate(m2);
    const run = [...server.runs.values()][0]!;
    let s = joined(server);
    expect(s.runs).toMatchObject([{ run: run.r, text: '' }]);
    server.end(run.r);
    s = hear(s, ...log(server, 4));
    expect(s.needOpen).toBe(true);
    s = hear(s, { kind: 'opened', answer: server.open(), now: 0 });
    expect(s.messages[1]!.siblings).toEqual([m2, run.m]);
    expect(s.needOpen).toBe(false);
  });
  it('an edit of an early question shows the new branch', () => {
    const server = conversation();
    let s = joined(server);
    const said = server.say('u_me', 'q1 edited', 'c2', null);
    server.state('head', (said.event as MsgEvent).id);
    s = hear(s, ...log(server, 2));
    expect(s.messages.map((m) => m.text)).toEqual(['q1 edited']);
    expect(s.messages[0]!.siblings).toHaveLength(2);
    expect(s.runs).toHaveLength(1);
  });
  it('opened with a question that waits behind a running answer', () => {
    const server = new ModelConversation('c_1', 'u_me');
    server.say('u_me', 'q1', 'c1');
    server.say('u_me', 'q2', 'c2');
    // conv.open may answer before the channel does.
    const s = hear(
      emptyFold('c_1', 'u_me'),
      { kind: 'line', online: true },
      { kind: 'opened', answer: server.open(), now: 0 },
    );
    expect(s.messages.map((m) => m.text)).toEqual(['q1', 'q2']);
    expect(s.phase).toBe('stale');
    const t = hear(s, {
      kind: 'subscribed',
      snapshot: server.snapshot(),
      position: { offset: 2, epoch: server.epoch },
      recovered: false,
      now: 0,
    });
    expect(t.phase).toBe('live');
    expect(t.needOpen).toBe(false);
    expect(t.runs.map((r) => r.parent)).toEqual(s.messages.map((m) => m.id));
  });
});

describe('loss that is noticed', () => {
  it('another epoch: the old is shown, as stale, until the new is there', () => {
    const server = new ModelConversation('c_1', 'u_me');
    for (let i = 0; i < 3; i++) server.say('u_me', `t${i}`, `c${i}`, undefined, false);
    let s = joined(server);
    server.restore(1);
    s = hear(s, { kind: 'line', online: false });
    expect(s).toMatchObject({ phase: 'stale' });
    s = hear(
      s,
      { kind: 'line', online: true },
      {
        kind: 'subscribed',
        snapshot: server.snapshot(),
        position: { offset: 1, epoch: server.epoch },
        recovered: false,
        now: 0,
      },
    );
    expect(s).toMatchObject({ phase: 'stale', needOpen: true });
    expect(s.messages).toHaveLength(3);
    s = hear(s, { kind: 'opened', answer: server.open(), now: 0 });
    expect(s).toMatchObject({ phase: 'live', needOpen: false, epoch: server.epoch, offset: 1 });
    expect(s.messages).toHaveLength(1);
  });
  it('another epoch with an offset that looks the same is another log', () => {
    const server = new ModelConversation('c_1', 'u_me');
    server.say('u_me', 'one', 'c1', undefined, false);
    const s = hear(
      joined(server),
      { kind: 'line', online: false },
      { kind: 'line', online: true },
      { kind: 'subscribed', snapshot: snapshot(1), position: { offset: 1, epoch: 'e1.g2' }, recovered: false, now: 0 },
    );
    expect(s).toMatchObject({ phase: 'stale', needOpen: true });
    const early = hear(s, { kind: 'opened', answer: server.open(), now: 0 });
    expect(early).toMatchObject({ phase: 'stale', needOpen: true });
    server.epoch = 'e1.g2';
    expect(hear(early, { kind: 'opened', answer: server.open(), now: 0 })).toMatchObject({
      phase: 'live',
      needOpen: false,
    });
  });
  it('a long run of another log is not joined to what the old one said', () => {
    const entry: RunSnapshot = { r: 'r_m_2', m: 'm_2', parent: 'm_1', by: AI, st: 'writing', text: 'cd', p: 4, p0: 2 };
    const s = hear(fresh(), durable(1, question('m_1', null, 'm_2')), d('m_2', 0, 'xy'), {
      kind: 'subscribed',
      snapshot: snapshot(1, entry),
      position: { offset: 1, epoch: 'e1.g2' },
      recovered: false,
      now: 0,
    });
    expect(s.runs[0]).toMatchObject({ text: 'cd', known: false });
  });
  it('a line that is recovered while conv.open is asked for is still not in step', () => {
    const server = new ModelConversation('c_1', 'u_me');
    let s = joined(server);
    server.say('u_me', 'one', 'c1', undefined, false);
    server.say('u_me', 'two', 'c2', undefined, false);
    s = hear(
      s,
      ...log(server, 1),
      { kind: 'line', online: false },
      { kind: 'line', online: true },
      {
        kind: 'subscribed',
        snapshot: server.snapshot(),
        position: { offset: 2, epoch: server.epoch },
        recovered: true,
        now: 0,
      },
    );
    expect(s).toMatchObject({ phase: 'stale', needOpen: true });
    expect(hear(s, { kind: 'opened', answer: server.open(), now: 0 })).toMatchObject({ phase: 'live', offset: 2 });
  });
  it('nothing was missed: nothing is opened anew', () => {
    const server = new ModelConversation('c_1', 'u_me');
    server.say('u_me', 'one', 'c1', undefined, false);
    const s = hear(
      joined(server),
      { kind: 'line', online: false },
      { kind: 'line', online: true },
      {
        kind: 'subscribed',
        snapshot: server.snapshot(),
        position: { offset: 1, epoch: server.epoch },
        recovered: false,
        now: 0,
      },
    );
    expect(s).toMatchObject({ phase: 'live', needOpen: false });
  });
  it('an answer of conv.open that was taken too early is asked for again', () => {
    const server = new ModelConversation('c_1', 'u_me');
    const early = server.open();
    server.say('u_me', 'one', 'c1', undefined, false);
    const s = hear(
      emptyFold('c_1', 'u_me'),
      { kind: 'line', online: true },
      {
        kind: 'subscribed',
        snapshot: server.snapshot(),
        position: { offset: 1, epoch: server.epoch },
        recovered: false,
        now: 0,
      },
      { kind: 'opened', answer: early, now: 0 },
    );
    expect(s.needOpen).toBe(true);
    expect(hear(s, { kind: 'opened', answer: server.open(), now: 0 })).toMatchObject({
      needOpen: false,
      offset: 1,
      phase: 'live',
    });
  });
});

describe('who is here', () => {
  it('typing ends after six seconds, with the message, and with the line; never shows me to myself', () => {
    const typing = (u: string, on: boolean, now: number): Action => ephemeral({ t: 'typing', u, on }, now);
    let s = hear(fresh(), typing('u_2', true, 1000), typing('u_3', true, 3000), typing('u_me', true, 3000));
    expect(s.typing).toEqual(['u_2', 'u_3']);
    expect(nextTick(s)).toBe(1000 + TYPING_MS);
    s = hear(s, { kind: 'tick', now: 1000 + TYPING_MS });
    expect(s.typing).toEqual(['u_3']);
    expect(hear(s, typing('u_3', false, 8000)).typing).toEqual([]);
    expect(hear(s, durable(1, { ...question('m_1', null, 'm_2'), by: { kind: 'user', id: 'u_3' } })).typing).toEqual(
      [],
    );
    s = hear(s, { kind: 'line', online: false });
    expect(s.typing).toEqual([]);
    expect(nextTick(s)).toBeUndefined();
  });
  it('read positions only move forward', () => {
    const s = hear(fresh(), ephemeral({ t: 'read', u: 'u_2', o: 5 }), ephemeral({ t: 'read', u: 'u_2', o: 3 }));
    expect(s.read).toEqual({ u_2: 5 });
  });
});

describe('outgoing messages', () => {
  const out = (cid: string): Outgoing => ({ cid, text: 'x', created: 1, state: { is: 'sending' } });
  it('leave when the log shows them, in the same change', () => {
    const s = hear(
      fresh(),
      { kind: 'outgoing', list: [out('a'), out('b')] },
      durable(1, question('m_1', null, 'm_2', 'a')),
    );
    expect(s.outgoing.map((o) => o.cid)).toEqual(['b']);
    expect(ids(s)).toEqual(['m_1']);
  });
  it('stay when somebody else happens to use the same cid', () => {
    const other = { ...question('m_1', null, 'm_2', 'a'), by: { kind: 'user', id: 'u_2' } } as DurableEvent;
    expect(hear(fresh(), { kind: 'outgoing', list: [out('a')] }, durable(1, other)).outgoing).toHaveLength(1);
  });
  it('leave when conv.open shows them', () => {
    const server = new ModelConversation('c_1', 'u_me');
    const s = hear(emptyFold('c_1', 'u_me'), { kind: 'outgoing', list: [out('a')] });
    server.say('u_me', 'x', 'a');
    expect(hear(s, { kind: 'opened', answer: server.open(), now: 0 }).outgoing).toEqual([]);
  });
});

it('5,000 messages: one more costs little, and what has not changed stays the same object', () => {
  const server = new ModelConversation('c_1', 'u_me');
  for (let i = 0; i < 5000; i++) server.say('u_me', `t${i}`, `c${i}`, undefined, false);
  let s = hear(
    emptyFold('c_1', 'u_me'),
    { kind: 'line', online: true },
    {
      kind: 'subscribed',
      snapshot: server.snapshot(),
      position: { offset: 5000, epoch: server.epoch },
      recovered: false,
      now: 0,
    },
    { kind: 'opened', answer: server.open(5000), now: 0 },
  );
  const before = s.messages;
  server.say('u_me', 'more', 'more');
  const run = [...server.runs.keys()][0]!;
  const begin = performance.now();
  s = hear(s, ...log(server, 5000));
  for (let i = 0; i < 200; i++) s = hear(s, ephemeral(server.write(run, 'word ')));
  expect(performance.now() - begin).toBeLessThan(1500);
  expect(s.messages).toHaveLength(5001);
  expect(s.messages.slice(0, 5000).every((m, i) => m === before[i])).toBe(true);
  expect(s.runs[0]!.text).toHaveLength(1000);
});
