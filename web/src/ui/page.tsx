/** The page: the frame, the keys that work everywhere, and what is said to those who listen instead of look. */
import type { JSX } from 'preact';
import { effect } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { current, drawer, go, list, overlay, persona, said, say, state, stop, stopped, title } from '../app';
import { words } from '../words';
import { Bar } from './bar';
import { Dock } from './composer';
import { Overlay } from './dialogs';
import { Side } from './side';
import { isEmpty, Transcript } from './transcript';

function editable(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches('input, textarea, select, [contenteditable]');
}

function step(by: number): void {
  const items = [...list.value].sort((a, b) => b.updated - a.updated);
  if (items.length === 0) return;
  const at = items.findIndex((item) => item.id === current.value);
  const next = items[at < 0 ? (by > 0 ? 0 : items.length - 1) : (at + by + items.length) % items.length];
  if (next !== undefined) go(next.id);
}

function toComposer(): void {
  document.getElementById('say')?.focus();
}

function onKey(event: KeyboardEvent): void {
  const strong = event.ctrlKey || event.metaKey;
  if (strong && !event.altKey && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    overlay.value = overlay.value?.is === 'palette' ? undefined : { is: 'palette' };
    return;
  }
  if (overlay.value !== undefined || event.defaultPrevented || event.isComposing) return;
  if (strong && event.shiftKey && event.key.toLowerCase() === 'o') {
    event.preventDefault();
    go(undefined);
    toComposer();
    return;
  }
  if (event.altKey && !strong && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
    event.preventDefault();
    step(event.key === 'ArrowUp' ? -1 : 1);
    return;
  }
  if (event.key === 'Escape') {
    if (drawer.value) drawer.value = false;
    else stop();
    return;
  }
  if (editable(event.target) || strong || event.altKey) return;
  if (event.key === '?') {
    event.preventDefault();
    overlay.value = { is: 'keys' };
  }
  if (event.key === '/') {
    event.preventDefault();
    toComposer();
  }
}

/** One polite region: an answer begins, an answer is there, the line is back. Text is never read as it arrives. */
function announce(): () => void {
  let conv: string | undefined;
  let busy = new Map<string, string>();
  return effect(() => {
    const s = state.value;
    const runs = new Map(
      (s?.runs ?? []).filter((r) => r.st !== 'queued').map((r) => [r.run, r.by.name ?? persona.peek().name]),
    );
    if (s?.conv !== conv) {
      conv = s?.conv;
      busy = runs;
      return;
    }
    for (const [run, who] of runs) if (!busy.has(run)) say(words.live.answering(who));
    for (const run of busy.keys()) {
      if (runs.has(run) || stopped.peek().has(run)) continue;
      const ended = s?.messages.findLast((m) => m.run === run);
      if (ended !== undefined)
        say(
          ended.status === 'complete'
            ? words.live.ready
            : ended.status === 'stopped'
              ? words.live.stopped
              : words.live.failed,
        );
    }
    busy = runs;
  });
}

/** Where the browser does not resize the page for its keyboard, the page does. */
function fitKeyboard(): () => void {
  const view = window.visualViewport;
  if (view === null) return () => undefined;
  const fit = (): void => {
    const hidden = innerHeight - view.height;
    const root = document.documentElement;
    if (hidden > 80 && view.scale < 1.05) root.style.setProperty('--height', `${view.height}px`);
    else root.style.removeProperty('--height');
  };
  view.addEventListener('resize', fit);
  return () => {
    view.removeEventListener('resize', fit);
  };
}

export function Page(): JSX.Element {
  useEffect(() => {
    document.addEventListener('keydown', onKey);
    const quiet = announce();
    const unfit = fitKeyboard();
    return () => {
      document.removeEventListener('keydown', onKey);
      quiet();
      unfit();
    };
  }, []);
  const unread = list.value.reduce((sum, item) => sum + (item.id === current.value ? 0 : item.unread), 0);
  useEffect(() => {
    document.title = `${unread > 0 ? `(${unread}) ` : ''}${title.value === '' ? '' : `${title.value} · `}${words.app}`;
  }, [unread, title.value]);
  const empty = isEmpty();
  const failed = (state.value?.outgoing ?? []).some(
    (o) => o.state.is === 'failed' || (o.state.is === 'refused' && o.state.final),
  );
  return (
    <>
      <a
        class="skip"
        href="#say"
        onClick={(event) => {
          event.preventDefault();
          toComposer();
        }}
      >
        {words.skip}
      </a>
      <div class={empty ? 'app empty' : 'app'}>
        <Side />
        <main class="pane" inert={drawer.value}>
          <Bar />
          <Transcript />
          <Dock />
          <p class="unseen" role="status">
            {said.value}
          </p>
          <p class="unseen" role="alert">
            {failed ? words.live.lost : ''}
          </p>
        </main>
        {drawer.value && (
          <div
            class="scrim"
            onClick={() => {
              drawer.value = false;
            }}
          />
        )}
      </div>
      <Overlay />
    </>
  );
}
