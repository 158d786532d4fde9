/**
 * The scrolling part. Following: only while the reader is at the end, by setting scrollTop; one tick of the wheel
 * upward ends it. Opening lands on the first unread message; older ones keep what is in view where it was.
 */
import type { JSX } from 'preact';
import { signal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import type { ConversationState, LiveRun, Message } from '@kith/client';
import { conversation, current, first, me, persona, say, state, stopped, title, go } from '../app';
import { copyText, csv, saveText, tableRows } from '../clip';
import { icon } from '../md/boxes';
import { answers, loadAnswers, plain } from '../md/load';
import { dayName, words } from '../words';
import { Icon, useLate, useNow } from './parts';
import { AnswerTurn, OutgoingTurn, YourTurn, type Answer } from './turn';
import { Welcome } from './welcome';

const AT_END = 40;
const AWAY = 160;

/** The reader is away from the end, and how much came since. */
export const away = signal<{ on: boolean; fresh: number }>({ on: false, fresh: 0 });
export const jump = signal(0);

/** Queued runs whose turn comes after another: their messages wait in the dock, not in the transcript. */
export function waitingRuns(s: ConversationState, gone: ReadonlyMap<string, string>): LiveRun[] {
  const queued = s.runs.filter((r) => r.st === 'queued' && !gone.has(r.run));
  const active = s.runs.some((r) => r.st !== 'queued' && !gone.has(r.run));
  return active ? queued : queued.slice(1);
}

interface Marks {
  fresh: string | undefined;
  count: number;
}

/** Where the unread line stands: before the first message of others past my read position. */
function marks(s: ConversationState): Marks {
  const mine = me.value?.user ?? '';
  const from = Math.max(s.unreadFrom, s.read[mine] ?? 0);
  const unread = s.messages.filter((m) => m.offset > from && m.by.id !== mine && m.by.kind !== 'user');
  const at = unread[0];
  return at === undefined || s.messages[0]?.id === at.id
    ? { fresh: undefined, count: 0 }
    : { fresh: at.id, count: unread.length };
}

type Cached = { deps: unknown[]; node: JSX.Element };

/** A turn whose inputs are the same objects keeps its node, and Preact skips it: a long transcript costs nothing to extend. */
function cached(cache: Map<string, Cached>, key: string, deps: unknown[], make: () => JSX.Element): JSX.Element {
  const known = cache.get(key);
  if (known !== undefined && known.deps.length === deps.length && known.deps.every((d, i) => Object.is(d, deps[i])))
    return known.node;
  const node = make();
  cache.set(key, { deps, node });
  return node;
}

function answerOf(run: LiveRun, halted: string | undefined, last: boolean): Answer {
  return {
    id: run.msg,
    by: run.by.name === undefined ? { ...run.by, name: persona.value.name } : run.by,
    text: halted ?? run.text,
    open: halted === undefined,
    last,
    run,
    halted: halted !== undefined,
  };
}

function turns(s: ConversationState, cache: Map<string, Cached>, mark: Marks, now: number): JSX.Element[] {
  const gone = stopped.value;
  const waits = new Set(waitingRuns(s, gone).map((r) => r.run));
  const shownRuns = s.runs.filter((r) => !waits.has(r.run));
  const messages = s.messages.filter((m) => m.answer === undefined || !waits.has(m.answer.run));
  const placed = new Set<string>();
  const out: JSX.Element[] = [];
  const lastId = shownRuns[shownRuns.length - 1]?.msg ?? messages[messages.length - 1]?.id;
  const addRun = (run: LiveRun): void => {
    placed.add(run.run);
    const halted = gone.get(run.run);
    const last = run.msg === lastId;
    out.push(
      cached(cache, run.msg, [run, halted, last, persona.value.name], () => (
        <AnswerTurn key={run.msg} answer={answerOf(run, halted, last)} />
      )),
    );
  };
  let day = '';
  for (const m of messages) {
    const name = dayName(m.ts, now);
    if (name !== day) {
      if (day !== '' || s.older)
        out.push(
          <div key={`day ${name} ${m.id}`} class="mark-line" role="separator" aria-label={name}>
            {name}
          </div>,
        );
      day = name;
    }
    if (m.id === mark.fresh)
      out.push(
        <div key="fresh" class="mark-line fresh" role="separator" aria-label={words.transcript.freshLabel(mark.count)}>
          {words.transcript.fresh(mark.count)}
        </div>,
      );
    out.push(turnOf(m, cache, m.id === lastId));
    for (const run of shownRuns) if (run.parent === m.id && !placed.has(run.run)) addRun(run);
  }
  for (const run of shownRuns) if (!placed.has(run.run)) addRun(run);
  for (const o of s.outgoing)
    out.push(cached(cache, `you ${o.cid}`, [o], () => <OutgoingTurn key={`you ${o.cid}`} out={o} />));
  return out;
}

function turnOf(m: Message, cache: Map<string, Cached>, last: boolean): JSX.Element {
  if (m.by.kind === 'user') {
    const key = m.cid === undefined ? m.id : `you ${m.cid}`;
    return cached(cache, key, [m], () => <YourTurn key={key} message={m} />);
  }
  return cached(cache, m.id, [m, last, persona.value.name], () => {
    const by = m.by.name === undefined && m.by.kind === 'ai' ? { ...m.by, name: persona.value.name } : m.by;
    return <AnswerTurn key={m.id} answer={{ id: m.id, by, ts: m.ts, text: m.text, open: false, last, message: m }} />;
  });
}

/** Buttons inside answers are drawn without Preact; their clicks arrive here. */
function onBoxClick(event: MouseEvent): void {
  const button = (event.target as Element).closest<HTMLButtonElement>('button[data-does]');
  const box = button?.closest('figure.box');
  if (!button || !box) return;
  const table = box.querySelector('table');
  const pre = box.querySelector('pre');
  switch (button.dataset['does']) {
    case 'copy-code':
      void copied(button, pre?.textContent ?? '');
      break;
    case 'copy-table':
      if (table)
        void copied(
          button,
          tableRows(table)
            .map((r) => r.join('\t'))
            .join('\n'),
        );
      break;
    case 'save-table':
      if (table) saveText('table.csv', 'text/csv', csv(tableRows(table)));
      break;
    case 'save':
      saveText(fileName(pre?.dataset['lang'] ?? ''), 'text/plain', pre?.textContent ?? '');
      break;
    case 'wrap': {
      const on = button.getAttribute('aria-pressed') !== 'true';
      button.setAttribute('aria-pressed', String(on));
      box.toggleAttribute('data-wrap', on);
      break;
    }
    default:
  }
}

const ENDINGS: Record<string, string> = {
  python: 'py',
  javascript: 'js',
  typescript: 'ts',
  bash: 'sh',
  shell: 'sh',
  markdown: 'md',
  csharp: 'cs',
  ruby: 'rb',
  rust: 'rs',
  kotlin: 'kt',
  perl: 'pl',
  plaintext: 'txt',
  text: 'txt',
};
function fileName(lang: string): string {
  const name = lang.toLowerCase();
  const end = Object.hasOwn(ENDINGS, name) ? ENDINGS[name] : /^[a-z0-9]{1,5}$/.test(name) ? name : 'txt';
  return `code.${end}`;
}

async function copied(button: HTMLButtonElement, text: string): Promise<void> {
  const done = await copyText(text);
  say(done ? words.copied : words.copyFailed);
  if (!done || button.dataset['copied'] !== undefined) return;
  const sign = button.querySelector('svg');
  button.dataset['copied'] = '';
  const tick = icon('check');
  sign?.replaceWith(tick);
  setTimeout(() => {
    delete button.dataset['copied'];
    if (sign) tick.replaceWith(sign);
  }, 1600);
}

function Skeleton(): JSX.Element {
  return (
    <div class="log skeleton" role="status" aria-label={words.transcript.loading}>
      <i class="me-bar" />
      <i class="w7" />
      <i class="w9" />
      <i class="w5" />
      <i class="me-bar" />
      <i class="w9" />
      <i class="w8" />
    </div>
  );
}

function Gone(): JSX.Element {
  return (
    <div class="log welcome">
      <h1>{words.gone.head}</h1>
      <p>{words.gone.body}</p>
      <button
        type="button"
        class="btn"
        onClick={() => {
          go(undefined);
        }}
      >
        <Icon name="write" />
        {words.gone.fresh}
      </button>
    </div>
  );
}

export function Transcript(): JSX.Element {
  const s = state.value;
  const scroller = useRef<HTMLDivElement>(null);
  const cache = useRef(new Map<string, Cached>());
  const follows = useRef(true);
  const at = useRef({ conv: '', top: 0, height: 0, seen: 0, landed: false });
  const mark = useRef<Marks>({ fresh: undefined, count: 0 });
  const anchor = useRef<{ key: Element; top: number } | undefined>(undefined);
  const now = useNow(60_000);
  const late = useLate(s !== undefined && s.phase === 'loading', 250, s?.conv);

  const readable = answers.value !== undefined || plain.value;
  useEffect(() => {
    if (s !== undefined && !readable) void loadAnswers();
  }, [s?.conv, readable]);
  const known =
    s !== undefined &&
    (readable || !s.messages.some((m) => m.by.kind !== 'user')) &&
    (s.phase !== 'loading' || s.messages.length > 0 || s.outgoing.length > 0);
  if (s !== undefined && at.current.conv !== s.conv) {
    at.current = { conv: s.conv, top: 0, height: 0, seen: 0, landed: false };
    cache.current.clear();
    mark.current = { fresh: undefined, count: 0 };
    follows.current = true;
  }
  if (known && s !== undefined && !at.current.landed) mark.current = marks(s);

  const settle = (el: HTMLElement): void => {
    at.current.top = el.scrollTop;
    at.current.height = el.scrollHeight;
  };
  const toEnd = (): void => {
    const el = scroller.current;
    if (!el) return;
    el.scrollTop = el.scrollHeight;
    settle(el);
  };
  /** A reader who has just moved up is not taken back, even if their scrolling has not been told yet. */
  const movedUp = (el: HTMLElement): boolean =>
    el.scrollTop < at.current.top - 1 &&
    el.scrollHeight >= at.current.height &&
    el.scrollHeight - el.scrollTop - el.clientHeight > 2;
  const keepEnd = (): void => {
    const el = scroller.current;
    if (!el || !follows.current) return;
    if (movedUp(el)) follows.current = false;
    else toEnd();
  };
  const look = (): void => {
    const el = scroller.current;
    if (!el || s === undefined) return;
    const gap = el.scrollHeight - el.scrollTop - el.clientHeight;
    const latest = state.value?.offset ?? 0;
    if (follows.current || gap <= AT_END) {
      at.current.seen = latest;
      if (document.visibilityState === 'visible' && state.value?.phase === 'live') conversation()?.setRead(latest);
    }
    const fresh = (state.value?.messages ?? []).filter(
      (m) => m.offset > at.current.seen && m.by.kind !== 'user',
    ).length;
    const on = !follows.current && gap > AWAY;
    if (away.value.on !== on || away.value.fresh !== fresh) away.value = { on, fresh };
  };

  useLayoutEffect(() => {
    const el = scroller.current;
    if (!el || !known || s === undefined) return;
    if (!at.current.landed) {
      at.current.landed = true;
      const line = el.querySelector<HTMLElement>('.mark-line.fresh');
      if (line) {
        el.scrollTop = line.offsetTop - Math.min(180, el.clientHeight / 3);
        follows.current = el.scrollHeight - el.scrollTop - el.clientHeight <= AT_END;
        at.current.seen = follows.current ? s.offset : Math.max(s.unreadFrom, s.read[me.value?.user ?? ''] ?? 0);
      } else {
        toEnd();
        follows.current = true;
      }
    } else if (anchor.current !== undefined) {
      if (anchor.current.key.isConnected)
        el.scrollTop += anchor.current.key.getBoundingClientRect().top - anchor.current.top;
      if (!s.loadingOlder) {
        anchor.current = undefined;
        requestAnimationFrame(() => {
          el.classList.remove('still');
        });
      }
    } else {
      keepEnd();
    }
    settle(el);
    look();
  });

  useEffect(() => {
    const el = scroller.current;
    if (!el) return undefined;
    const onScroll = (): void => {
      /* A dock that shrinks moves the end down to the reader: that is no scrolling up. */
      if (movedUp(el)) follows.current = false;
      else if (el.scrollHeight - el.scrollTop - el.clientHeight <= AT_END && el.scrollTop > at.current.top)
        follows.current = true;
      settle(el);
      look();
    };
    const onWheel = (event: WheelEvent): void => {
      if (event.deltaY < 0 && el.scrollTop > 0) follows.current = false;
    };
    const resized = new ResizeObserver(() => {
      keepEnd();
      look();
    });
    resized.observe(el);
    if (el.firstElementChild) resized.observe(el.firstElementChild);
    el.addEventListener('scroll', onScroll, { passive: true });
    el.addEventListener('wheel', onWheel, { passive: true });
    const seen = (): void => {
      look();
    };
    document.addEventListener('visibilitychange', seen);
    const unjump = jump.subscribe((n) => {
      if (n === 0) return;
      follows.current = true;
      toEnd();
      look();
    });
    return () => {
      resized.disconnect();
      el.removeEventListener('scroll', onScroll);
      el.removeEventListener('wheel', onWheel);
      document.removeEventListener('visibilitychange', seen);
      unjump();
    };
  }, [s?.conv, known]);

  const older = (): void => {
    const el = scroller.current;
    const top = el?.querySelector('.turn');
    const here = conversation();
    if (!el || !top || !here || s?.loadingOlder) return;
    el.classList.add('still');
    follows.current = false;
    anchor.current = { key: top, top: top.getBoundingClientRect().top };
    void here.loadOlder().catch(() => {
      anchor.current = undefined;
      el.classList.remove('still');
    });
  };

  if (
    s === undefined ||
    (s.phase === 'live' && s.messages.length === 0 && s.runs.length === 0 && s.outgoing.length === 0)
  ) {
    return (
      <div
        class="scroll"
        tabIndex={first.value === undefined ? -1 : 0}
        role="region"
        aria-label={words.transcript.region}
        ref={scroller}
      >
        <Welcome />
      </div>
    );
  }
  return (
    <div
      class="scroll"
      tabIndex={0}
      role="region"
      aria-label={words.transcript.region}
      ref={scroller}
      onClick={onBoxClick}
    >
      <div>
        {s.phase !== 'gone' && (
          <h1 class="unseen">{words.transcript.heading(title.value || words.list.untitled, persona.value.name)}</h1>
        )}
        {s.phase === 'gone' ? (
          <Gone />
        ) : !known ? (
          late && <Skeleton />
        ) : (
          <div class="log" role="log" aria-live="off" aria-label={words.transcript.log}>
            {s.older && (
              <div class="older">
                <button type="button" class="chip" disabled={s.loadingOlder} onClick={older}>
                  {s.loadingOlder ? words.transcript.loadingEarlier : words.transcript.earlier}
                </button>
              </div>
            )}
            {turns(s, cache.current, mark.current, now)}
          </div>
        )}
      </div>
    </div>
  );
}

/** The conversation in view holds nothing yet. */
export function isEmpty(): boolean {
  if (current.value === undefined) return first.value === undefined;
  const s = state.value;
  return (
    s !== undefined && s.phase === 'live' && s.messages.length === 0 && s.runs.length === 0 && s.outgoing.length === 0
  );
}
