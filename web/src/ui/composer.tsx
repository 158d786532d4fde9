/** The dock: banner, waiting messages, composer, suggestions, hint. In the flow under the text, so nothing covers it. */
import type { JSX } from 'preact';
import { signal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import {
  conversation,
  current,
  drafts,
  first,
  line,
  lost,
  me,
  persona,
  personaOf,
  send,
  state,
  stop,
  stopped,
  tryNow,
} from '../app';
import { coarse, sendKey } from '../prefs';
import { place, words } from '../words';
import { Icon } from './parts';
import { away, isEmpty, jump, waitingRuns } from './transcript';

/** Text that is to stand in the composer: of a refused message, for instance. */
const wanted = signal<{ text: string } | undefined>(undefined);
export function putText(text: string): void {
  wanted.value = { text };
}

function Banner(): JSX.Element | null {
  if (line.value.is === 'closed') {
    const { code } = line.value;
    const stranger = code === 3500 || code === 3501 || code === 3507;
    return (
      <div class="banner" role="alert">
        <Icon name="off" />
        <p>
          <b>{stranger ? words.banner.stranger : words.banner.closed}</b>{' '}
          {stranger ? words.banner.strangerBody : words.banner.closedBody}
        </p>
        <button
          type="button"
          class="btn bare"
          onClick={() => {
            location.reload();
          }}
        >
          {words.banner.reload}
        </button>
      </div>
    );
  }
  if (!lost.value) return null;
  return (
    <div class="banner" role="alert">
      <Icon name="off" />
      <p>
        <b>{words.banner.offline}</b> {words.banner.offlineBody}
      </p>
      <button type="button" class="btn bare" onClick={tryNow}>
        {words.banner.now}
      </button>
    </div>
  );
}

function Waits(): JSX.Element | null {
  const s = state.value;
  const runs = s === undefined ? [] : waitingRuns(s, stopped.value);
  const rows = runs
    .map((run) => ({ run, text: s?.messages.find((m) => m.id === run.parent)?.text ?? '' }))
    .filter((row) => row.text !== '');
  if (rows.length === 0) return null;
  return (
    <ul class="waits" aria-label={words.wait.name}>
      {rows.map(({ run, text }, i) => (
        <li key={run.run} class="wait">
          <span class="place">{place(i)}</span>
          <span class="what" dir="auto">
            {text}
          </span>
          <button
            type="button"
            class="act"
            aria-label={words.wait.stop}
            title={words.wait.stop}
            onClick={() => {
              void conversation()
                ?.stop(run.run)
                .catch(() => undefined);
            }}
          >
            <Icon name="close" />
          </button>
        </li>
      ))}
    </ul>
  );
}

/** "Plan a weekend: two days, one bag" has a head and a second line; a suggestion without one is a head. */
function split(idea: string): [string, string] {
  const found = /^(.{3,40}?)(?::\s+|\s+[—–]\s+|\n)(.+)$/s.exec(idea);
  return found ? [found[1] ?? idea, found[2] ?? ''] : [idea, ''];
}

function Ideas(): JSX.Element | null {
  const ideas = personaOf(persona.value.id)?.suggestions ?? [];
  if (!isEmpty() || ideas.length === 0) return null;
  return (
    <ul class="ideas" aria-label={words.welcome.ideas}>
      {ideas.slice(0, 4).map((idea) => {
        const [head, rest] = split(idea);
        return (
          <li key={idea}>
            <button
              type="button"
              dir="auto"
              onClick={() => {
                void send(idea);
              }}
            >
              {head}
              {rest !== '' && <span>{rest}</span>}
            </button>
          </li>
        );
      })}
    </ul>
  );
}

/** Bytes count at the server; only a text that may be near the limit is measured. */
function overBy(text: string): number {
  const max = me.value?.limits.text_bytes ?? 0;
  if (max === 0 || text.length * 3 <= max) return 0;
  const bytes = new TextEncoder().encode(text).length;
  return bytes <= max ? 0 : Math.ceil((bytes - max) * (text.length / bytes));
}

function grow(area: HTMLTextAreaElement): void {
  if (CSS.supports('field-sizing', 'content')) return;
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight}px`;
}

function Composer(): JSX.Element {
  const area = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState('');
  const key = current.value ?? 'new';
  const keyNow = useRef(key);
  keyNow.current = key;
  const running = (state.value?.runs ?? []).some((r) => !stopped.value.has(r.run));
  const over = overBy(text);
  const blank = text.trim() === '';
  const gone = state.value?.phase === 'gone' || line.value.is === 'closed';

  const put = (next: string, save: boolean): void => {
    if (area.current) {
      area.current.value = next;
      grow(area.current);
    }
    setText(next);
    if (save) drafts.save(keyNow.current, next);
  };
  useLayoutEffect(() => {
    let fresh = true;
    put('', false);
    void drafts.load(key).then((kept) => {
      if (fresh && area.current?.value === '' && kept !== '') put(kept, false);
    });
    drafts.onCleared = (conv, sent) => {
      if (conv === keyNow.current && area.current?.value.trim() === sent.trim()) put('', false);
    };
    if (coarse?.matches !== true) area.current?.focus({ preventScroll: true });
    return () => {
      fresh = false;
    };
  }, [key]);
  useEffect(
    () =>
      wanted.subscribe((next) => {
        if (next === undefined) return;
        wanted.value = undefined;
        /* A new address loads its own draft first; what is put here comes after it. */
        queueMicrotask(() => {
          const have = area.current?.value.trim() ?? '';
          put(have === '' || have === next.text.trim() ? next.text : `${next.text}\n\n${have}`, true);
          area.current?.focus();
          area.current?.setSelectionRange(area.current.value.length, area.current.value.length);
        });
      }),
    [],
  );

  const onInput = (): void => {
    const next = area.current?.value ?? '';
    setText(next);
    if (area.current) grow(area.current);
    drafts.save(key, next);
    conversation()?.setTyping(next.trim() !== '');
  };
  const submit = (): void => {
    const next = area.current?.value ?? '';
    if (next.trim() === '' || overBy(next) > 0 || gone) return;
    put('', false);
    conversation()?.setTyping(false);
    jump.value++;
    void send(next.trim());
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key !== 'Enter' || event.isComposing || event.keyCode === 229) return;
    const strong = event.ctrlKey || event.metaKey;
    if (strong || (!event.shiftKey && !event.altKey && sendKey.value === 'enter' && coarse?.matches !== true)) {
      event.preventDefault();
      submit();
    }
  };
  const sendTitle = sendKey.value === 'ctrl' ? words.composer.sendCtrl : words.composer.sendKey;
  const stopButton = (main: boolean): JSX.Element => (
    <button
      type="button"
      class={main ? 'go halt' : 'act round halt-small'}
      aria-label={words.composer.stop}
      title={words.composer.stopKey}
      onClick={stop}
    >
      <Icon name="stop" />
    </button>
  );
  return (
    <form
      class="composer"
      aria-label={words.composer.name}
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) area.current?.focus();
      }}
    >
      <label class="unseen" for="say">
        {words.composer.label}
      </label>
      <textarea
        id="say"
        ref={area}
        rows={1}
        dir="auto"
        placeholder={isEmpty() ? words.composer.to(persona.value.name) : words.composer.placeholder}
        enterkeyhint={coarse?.matches ? 'enter' : 'send'}
        onInput={onInput}
        onKeyDown={onKey}
        onBlur={() => {
          conversation()?.setTyping(false);
        }}
        aria-describedby={over > 0 ? 'over' : undefined}
        aria-invalid={over > 0}
      />
      <div class="tools">
        {over > 0 && (
          <p class="over" id="over" role="alert">
            {words.composer.over(over)}
          </p>
        )}
        <span class="gap" />
        {running && !blank && stopButton(false)}
        {running && blank ? (
          stopButton(true)
        ) : (
          <button
            type="submit"
            class="go"
            aria-label={words.composer.send}
            title={sendTitle}
            aria-disabled={blank || over > 0 || gone}
          >
            <Icon name="up" />
          </button>
        )}
      </div>
    </form>
  );
}

export function Dock(): JSX.Element {
  const hint = coarse?.matches
    ? words.composer.hintTouch
    : sendKey.value === 'ctrl'
      ? words.composer.hintCtrl
      : words.composer.hintEnter;
  const { on, fresh } = away.value;
  return (
    <div class="dock">
      {on && !isEmpty() && (
        <div class="latest">
          <button
            type="button"
            class="btn"
            onClick={() => {
              jump.value++;
            }}
          >
            <Icon name="down" />
            {fresh > 0 ? words.transcript.latestNew(fresh) : words.transcript.latest}
          </button>
        </div>
      )}
      <Banner />
      <Waits />
      <Composer />
      <Ideas />
      {!isEmpty() && (
        <p class="hint">{first.value === undefined || current.value !== undefined ? hint : words.composer.hintTouch}</p>
      )}
    </div>
  );
}
