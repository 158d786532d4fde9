/** One turn of the conversation: the person's pill, or an answer in any of its states. */
import type { ComponentChildren, JSX } from 'preact';
import { effect } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { By, LiveRun, Message, Outgoing } from '@kith/client';
import { again, conversation, go, readiness } from '../app';
import { copyText } from '../clip';
import type { AnswerView, Shown } from '../md/answer';
import { answers, arrived } from '../md/load';
import { clock, countdown, ending, failure, moment, refusal, words, type Notice } from '../words';
import { putText } from './composer';
import { Face, Facts, Icon, useLate, useNow } from './parts';

/** A pill longer than this is folded. */
const FOLD_CHARS = 1400;
const FOLD_LINES = 18;

function AnswerText({ text, as }: { text: string; as: Shown }): JSX.Element {
  const root = useRef<HTMLDivElement>(null);
  const view = useRef<AnswerView | undefined>(undefined);
  useLayoutEffect(() => {
    if (root.current === null) return;
    const views = answers.peek();
    if (views === undefined) {
      root.current.textContent = text;
      return;
    }
    if (view.current === undefined) root.current.replaceChildren();
    view.current ??= new views.AnswerView(root.current);
    view.current.show(text, as);
  }, [text, as, answers.value]);
  useEffect(
    () =>
      effect(() => {
        if (arrived.value > 0) view.current?.refresh();
      }),
    [],
  );
  return <div class={answers.value === undefined ? 'text as-is' : 'text'} ref={root} />;
}

/** What the person wrote, as written; only *narration* is set in italics and a fence in code. */
function OwnText({ text }: { text: string }): JSX.Element {
  const [whole, setWhole] = useState(false);
  const long = text.length > FOLD_CHARS || text.split('\n').length > FOLD_LINES;
  const parts = text.split(/\n*^```[^\n]*\n([\s\S]*?)(?:^```[ \t]*$\n*|$(?![\s\S]))/m);
  return (
    <>
      <div class={long && !whole ? 'folded' : undefined}>
        {parts.map((part, i) =>
          i % 2 === 1 ? (
            <pre key={i} dir="ltr">
              <code>{part.replace(/\n$/, '')}</code>
            </pre>
          ) : (
            part
              .split(/\n{2,}/)
              .filter((p) => p.trim() !== '')
              .map((p, k) => (
                <p key={`${i}.${k}`} dir="auto">
                  {emphasis(p)}
                </p>
              ))
          ),
        )}
      </div>
      {long && (
        <button
          type="button"
          class="unfold"
          aria-expanded={whole}
          onClick={() => {
            setWhole(!whole);
          }}
        >
          {whole ? words.transcript.less : words.transcript.whole}
        </button>
      )}
    </>
  );
}

function emphasis(text: string): ComponentChildren {
  return text
    .split(/(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])/)
    .map((part, i) => (i % 2 === 1 ? <em key={i}>{part}</em> : part));
}

function CopyAct({ text }: { text: string }): JSX.Element {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => {
      setDone(false);
    }, 1600);
    return () => {
      clearTimeout(timer);
    };
  }, [done]);
  return (
    <button
      type="button"
      class="act"
      aria-label={done ? words.copied : words.copy}
      title={words.copy}
      onClick={() => {
        void copyText(text).then(setDone);
      }}
    >
      <Icon name={done ? 'check' : 'copy'} />
    </button>
  );
}

export function YourTurn({ message }: { message: Message }): JSX.Element {
  return (
    <article class="turn you">
      <h2 class="unseen">{words.transcript.you(clock(message.ts))}</h2>
      <div class="pill">
        <OwnText text={message.text} />
      </div>
      <div class="under">
        <div class="acts" role="group" aria-label={words.answer.yourActs}>
          <CopyAct text={message.text} />
        </div>
        <time class="when" dateTime={new Date(message.ts).toISOString()} title={moment(message.ts)}>
          {clock(message.ts)}
        </time>
      </div>
    </article>
  );
}

function Note({
  bad,
  sign,
  notice,
  children,
  detail,
}: {
  bad?: boolean;
  sign: string;
  notice: Notice;
  children?: ComponentChildren;
  detail?: ComponentChildren;
}): JSX.Element {
  return (
    <div class={bad ? 'note bad' : 'note'}>
      <Icon name={sign} />
      <p>
        <b>{notice.head}</b> {notice.body}
        {detail}
      </p>
      {children !== undefined && children !== null && <div class="row">{children}</div>}
    </div>
  );
}

/** A message of mine that the log does not have yet, and what became of it. */
export function OutgoingTurn({ out }: { out: Outgoing }): JSX.Element {
  const { state } = out;
  const slow = useLate(state.is === 'sending', 900, out.cid);
  const retryAt = state.is === 'refused' && !state.final ? state.retry_at : undefined;
  const now = useNow(250, retryAt !== undefined);
  const edit = (): void => {
    putText(conversation()?.discard(out.cid) ?? out.text);
  };
  const drop = (): void => {
    conversation()?.discard(out.cid);
  };
  const name =
    state.is === 'refused'
      ? words.transcript.refused
      : state.is === 'sending'
        ? words.transcript.sending
        : state.is === 'waiting'
          ? words.transcript.waiting
          : words.transcript.notSent;
  return (
    <article class="turn you" data-out={state.is}>
      <h2 class="unseen">{words.transcript.youState(clock(out.created), name)}</h2>
      <div class={state.is === 'sending' ? 'pill' : 'pill held'}>
        <OwnText text={out.text} />
      </div>
      {state.is === 'sending' && (
        <div class="under">
          {slow && (
            <>
              <Icon name="clock" />
              <span>{words.transcript.sending}</span>
            </>
          )}
        </div>
      )}
      {state.is === 'waiting' && (
        <div class="under">
          <Icon name="clock" />
          <span>{words.transcript.waiting}</span>
        </div>
      )}
      {state.is === 'failed' && (
        <Note sign="alert" notice={failure(state.code)}>
          <button
            type="button"
            class="btn"
            onClick={() => {
              conversation()?.retry(out.cid);
            }}
          >
            <Icon name="again" />
            {words.outgoing.retry}
          </button>
          <button type="button" class="btn bare" onClick={edit}>
            <Icon name="edit" />
            {words.outgoing.edit}
          </button>
          <button type="button" class="btn bare" onClick={drop}>
            {words.outgoing.drop}
          </button>
        </Note>
      )}
      {state.is === 'refused' && !state.final && (
        <Note
          sign="clock"
          notice={refusal(state.code, false)}
          detail={
            retryAt === undefined ? null : (
              <>
                {' '}
                {words.outgoing.goes}
                <span class="time">{countdown(retryAt - now)}</span>
                {words.outgoing.goesEnd}
              </>
            )
          }
        >
          <button type="button" class="btn" onClick={edit}>
            <Icon name="edit" />
            {words.outgoing.edit}
          </button>
          <button type="button" class="btn bare" onClick={drop}>
            {words.outgoing.drop}
          </button>
        </Note>
      )}
      {state.is === 'refused' && state.final && (
        <Note bad sign="alert" notice={refusal(state.code, true)}>
          {state.code === 'closed' ? (
            <button
              type="button"
              class="btn"
              onClick={() => {
                const text = conversation()?.discard(out.cid) ?? out.text;
                go(undefined);
                putText(text);
              }}
            >
              <Icon name="write" />
              {words.outgoing.fresh}
            </button>
          ) : (
            <button type="button" class="btn" onClick={edit}>
              <Icon name="edit" />
              {words.outgoing.editSend}
            </button>
          )}
          <button type="button" class="btn bare" onClick={drop}>
            {words.outgoing.drop}
          </button>
        </Note>
      )}
    </article>
  );
}

/** An answer, finished or being made. One component for both, so that nothing is drawn anew when it ends. */
export interface Answer {
  id: string;
  by: By;
  ts?: number;
  text: string;
  open: boolean;
  last: boolean;
  run?: LiveRun;
  message?: Message;
  halted?: boolean;
}

function head(by: By): { id: string; name: string; role?: string } {
  if (by.kind === 'agent')
    return { id: by.id, name: by.name ?? words.transcript.role.agent, role: words.transcript.role.agent };
  if (by.kind === 'system')
    return { id: by.id, name: by.name ?? words.transcript.role.system, role: words.transcript.role.system };
  return { id: by.id, name: by.name ?? words.state.fallback };
}

/** While a message waits and nothing else runs, the server is asked whether there is a model at all. */
function Queued({ run }: { run: LiveRun }): JSX.Element {
  const [ready, setReady] = useState<'ready' | 'loading' | 'none'>('ready');
  useEffect(() => {
    let on = true;
    const ask = (): void => {
      void readiness().then((next) => {
        if (on) setReady(next);
      });
    };
    const first = setTimeout(ask, 300);
    const timer = setInterval(ask, 2500);
    return () => {
      on = false;
      clearTimeout(first);
      clearInterval(timer);
    };
  }, [run.run]);
  if (ready !== 'ready')
    return (
      <Note
        sign={ready === 'loading' ? 'clock' : 'alert'}
        notice={ready === 'loading' ? words.answer.loading : words.answer.none}
      />
    );
  const place = run.pos !== undefined && run.pos > 0 ? words.answer.queuedPos(run.pos) : words.answer.queued;
  const eta = run.eta_ms !== undefined && run.eta_ms > 0 ? `, ${words.answer.eta(Math.ceil(run.eta_ms / 1000))}` : '';
  return (
    <div class="text">
      <p class="waiting">
        {place}
        {eta}
        <span class="caret" aria-hidden="true" />
      </p>
    </div>
  );
}

/** What an answer that is being made shows beside its text. */
function Running({ run, blank }: { run: LiveRun; blank: boolean }): JSX.Element | null {
  const slow = useLate(run.st === 'thinking' && blank, 700, run.run);
  if (run.st === 'queued' && blank) return <Queued run={run} />;
  if (blank) {
    const what = run.st === 'tool' ? words.answer.tool : slow ? words.answer.thinking : '';
    return (
      <div class="text">
        <p class="waiting">
          {what}
          <span class="caret" aria-hidden="true" />
        </p>
      </div>
    );
  }
  if (run.st === 'tool') return <p class="quiet">{words.answer.tool}</p>;
  return run.st === 'saving' ? <p class="quiet">{words.answer.saving}</p> : null;
}

function Ended({ message, last }: { message: Message; last: boolean }): JSX.Element | null {
  const kept = message.text.trim() !== '';
  const goOn =
    kept && last ? (
      <button
        type="button"
        class="btn main"
        onClick={() => {
          void again(message.id, true);
        }}
      >
        {words.answer.continue}
      </button>
    ) : null;
  const anew = last ? (
    <button
      type="button"
      class="btn"
      onClick={() => {
        void again(message.id, false);
      }}
    >
      <Icon name="again" />
      {words.answer.again}
    </button>
  ) : null;
  if (message.status === 'failed') {
    return (
      <Note sign="alert" notice={ending(message.why, kept)}>
        {goOn}
        {anew}
        <code>{message.run ?? message.id}</code>
      </Note>
    );
  }
  if (message.status === 'blocked')
    return (
      <Note bad sign="alert" notice={words.answer.blocked}>
        {anew}
      </Note>
    );
  if (message.status === 'stopped') {
    return (
      <div class="ended">
        <Icon name="halted" />
        <span>
          {message.why === 'cancelled'
            ? words.answer.cancelled
            : kept
              ? words.answer.stopped
              : words.answer.stoppedEmpty}
        </span>
        {last && kept && (
          <button
            type="button"
            class="btn bare"
            onClick={() => {
              void again(message.id, true);
            }}
          >
            {words.answer.continue}
          </button>
        )}
        {last && (
          <button
            type="button"
            class="btn bare"
            onClick={() => {
              void again(message.id, false);
            }}
          >
            <Icon name="again" />
            {words.answer.again}
          </button>
        )}
      </div>
    );
  }
  if (message.why === 'length')
    return (
      <Note sign="alert" notice={words.answer.length}>
        {goOn}
      </Note>
    );
  return kept ? null : <p class="quiet">{words.answer.empty}</p>;
}

function facts(message: Message): [string, string][] {
  const rows: [string, string][] = [];
  if (message.model) rows.push([words.answer.model, message.model]);
  rows.push([words.answer.written, moment(message.ts)]);
  if (message.usage) rows.push([words.answer.tokens, words.answer.tokensValue(message.usage.in, message.usage.out)]);
  rows.push([words.answer.id, message.run ?? message.id]);
  return rows;
}

export function AnswerTurn({ answer }: { answer: Answer }): JSX.Element {
  const { by, text, open, last, run, message, halted } = answer;
  const { id, name, role } = head(by);
  const blank = text.trim() === '';
  const cut = halted || message?.status === 'stopped' || message?.status === 'failed';
  const noted =
    message !== undefined &&
    (message.status === 'failed' || message.status === 'blocked' || message.status === 'stopped');
  return (
    <article
      class={last ? 'turn last' : 'turn'}
      aria-busy={open ? 'true' : undefined}
      data-msg={answer.id}
      data-status={message?.status ?? (halted ? 'stopping' : run?.st)}
    >
      <h2 class="by">
        <Face id={id} name={name} size="tiny" />
        <span dir="auto">{name}</span>
        {role !== undefined && <span class="role">{role}</span>}
        {answer.ts !== undefined && (
          <time dateTime={new Date(answer.ts).toISOString()} title={moment(answer.ts)}>
            {clock(answer.ts)}
          </time>
        )}
      </h2>
      {blank ? null : <AnswerText key="text" text={text} as={open ? 'open' : cut ? 'cut' : 'done'} />}
      {run !== undefined && open && <Running key="run" run={run} blank={blank} />}
      {halted && (
        <div class="ended">
          <Icon name="halted" />
          <span>{words.answer.stopped}</span>
        </div>
      )}
      {message !== undefined && <Ended message={message} last={last} />}
      <div
        class="acts"
        role={message === undefined ? undefined : 'group'}
        aria-label={message === undefined ? undefined : words.answer.acts}
      >
        {message !== undefined && (
          <>
            {!blank && <CopyAct text={text} />}
            {by.kind === 'ai' && last && !noted && (
              <button
                type="button"
                class="act"
                aria-label={words.answer.again}
                title={words.answer.again}
                onClick={() => {
                  void again(message.id, false);
                }}
              >
                <Icon name="again" />
              </button>
            )}
            <Facts label={words.answer.details} rows={facts(message)} />
          </>
        )}
      </div>
    </article>
  );
}
