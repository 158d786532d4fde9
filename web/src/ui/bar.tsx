/** The title bar: who answers, what this is about, how it stands. It fades over the text that scrolls under it. */
import type { JSX } from 'preact';
import { current, drawer, go, line, list, lost, overlay, persona, state, stopped, title } from '../app';
import { coarse } from '../prefs';
import { clock, words } from '../words';
import { Face, Icon, Menu, type MenuItem } from './parts';

function below(): string {
  if (lost.value) return words.state.offline(clock(line.value.since));
  const run = state.value?.runs.find((r) => r.st !== 'queued' && !stopped.value.has(r.run));
  const who = run?.by.name ?? persona.value.name;
  if (run !== undefined) {
    if (run.st === 'saving') return words.state.saving;
    if (run.st === 'tool') return words.state.tool(who);
    return run.st === 'thinking' ? words.state.thinking(who) : words.state.writing(who);
  }
  if (state.value?.runs.some((r) => !stopped.value.has(r.run))) return words.state.queued;
  return title.value || words.list.fresh;
}

export function Bar(): JSX.Element {
  const unread = list.value.reduce((sum, item) => sum + (item.id === current.value ? 0 : item.unread), 0);
  const { id, name } = persona.value;
  const conv = current.value;
  const items: MenuItem[] = [
    {
      name: words.bar.fresh,
      sign: 'write',
      act: () => {
        go(undefined);
      },
    },
    ...(conv === undefined
      ? []
      : ([
          {
            name: words.bar.rename,
            sign: 'edit',
            act: () => {
              overlay.value = { is: 'rename', conv, title: title.value };
            },
          },
          {
            name: words.bar.remove,
            sign: 'bin',
            danger: true,
            act: () => {
              overlay.value = { is: 'remove', conv, title: title.value || words.list.untitled };
            },
          },
        ] satisfies MenuItem[])),
    {
      name: words.bar.settings,
      sign: 'tune',
      act: () => {
        overlay.value = { is: 'settings' };
      },
    },
    ...(coarse?.matches
      ? []
      : [
          {
            name: words.bar.keys,
            sign: 'keys',
            act: () => {
              overlay.value = { is: 'keys' };
            },
          } satisfies MenuItem,
        ]),
  ];
  return (
    <header class="bar">
      <button
        type="button"
        class="act round open"
        aria-label={words.list.open(unread)}
        aria-expanded={drawer.value}
        aria-controls="list-pane"
        onClick={() => {
          drawer.value = true;
        }}
      >
        <Icon name="menu" />
        {unread > 0 && <span class="dot" />}
      </button>
      <div class="who">
        <Face id={id} name={name} />
        <span>
          <b dir="auto">{name}</b>
          <small dir="auto">{below()}</small>
        </span>
      </div>
      <div class="right">
        <Menu round label={words.menuName} items={items} />
      </div>
    </header>
  );
}
