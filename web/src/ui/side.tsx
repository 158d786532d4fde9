/** The side list: conversations by day, what is new in them, what is being written. On phones it is a drawer. */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ConversationSummary } from '@kith/client';
import { current, drawer, go, line, list, listKnown, me, moreOfList, overlay, personaOf } from '../app';
import { groupName, moment, plainLine, stamp, words } from '../words';
import { Face, Icon, Mark, Menu, useNow } from './parts';

const PAGE = 20;

function nameOf(item: ConversationSummary): string {
  return item.title || plainLine(item.last ?? '').slice(0, 60) || words.list.untitled;
}

function Row({ item, now }: { item: ConversationSummary; now: number }): JSX.Element {
  const here = item.id === current.value;
  const name = nameOf(item);
  const unread = here ? 0 : item.unread;
  const persona = personaOf(item.persona) ??
    personaOf(undefined) ?? { id: item.persona ?? '', name: words.state.fallback };
  return (
    <li class={item.running ? 'running' : undefined}>
      <a
        href={`#${item.id}`}
        class={unread > 0 ? 'new' : undefined}
        aria-current={here ? 'page' : undefined}
        onClick={(event) => {
          if (event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
            event.preventDefault();
            go(item.id);
            drawer.value = false;
          }
        }}
      >
        <Face id={persona.id} name={persona.name} />
        <span>
          <span class="name" dir="auto">
            {name}
          </span>
          <span class="last" dir="auto">
            {plainLine(item.last ?? '') || '\u00a0'}
          </span>
        </span>
        <span class="meta">
          <time dateTime={new Date(item.updated).toISOString()} title={moment(item.updated)}>
            {stamp(item.updated, now)}
          </time>
          {item.running ? (
            <span class="pulse">
              <span class="unseen">{words.list.running}</span>
            </span>
          ) : unread > 1 ? (
            <span class="count">
              {unread > 99 ? '99+' : unread}
              <span class="unseen"> unread</span>
            </span>
          ) : unread === 1 ? (
            <>
              <span class="dot" />
              <span class="unseen">{words.list.unread(1)}</span>
            </>
          ) : null}
        </span>
      </a>
      <Menu
        label={words.list.menu(name)}
        items={[
          {
            name: words.bar.rename,
            sign: 'edit',
            act: () => {
              overlay.value = { is: 'rename', conv: item.id, title: item.title };
            },
          },
          {
            name: words.bar.remove,
            sign: 'bin',
            danger: true,
            act: () => {
              overlay.value = { is: 'remove', conv: item.id, title: name };
            },
          },
        ]}
      />
    </li>
  );
}

function groups(items: ConversationSummary[], now: number): [string, ConversationSummary[]][] {
  const out: [string, ConversationSummary[]][] = [];
  for (const item of items) {
    const name = groupName(item.updated, now);
    const last = out[out.length - 1];
    if (last !== undefined && last[0] === name) last[1].push(item);
    else out.push([name, [item]]);
  }
  return out;
}

export function Side(): JSX.Element {
  const now = useNow(60_000);
  const shut = useRef<HTMLButtonElement>(null);
  const [more, setMore] = useState<'maybe' | 'busy' | 'no'>('maybe');
  const items = [...list.value].filter((item) => item.archived !== true).sort((a, b) => b.updated - a.updated);
  const wasOpen = useRef(false);
  useEffect(() => {
    document.documentElement.toggleAttribute('data-list', drawer.value);
    if (drawer.value) shut.current?.focus();
    else if (wasOpen.current) document.querySelector<HTMLElement>('.bar .open')?.focus();
    wasOpen.current = drawer.value;
  }, [drawer.value]);

  const loadMore = (): void => {
    const before = list.value.length;
    setMore('busy');
    moreOfList().then(
      () => {
        setTimeout(() => {
          setMore(list.value.length > before ? 'maybe' : 'no');
        }, 50);
      },
      () => {
        setMore('maybe');
      },
    );
  };
  const name = me.value?.name || (me.value?.guest === false ? words.list.noName : words.list.guest);
  return (
    <nav class="side" aria-label={words.list.name} id="list-pane">
      <div class="brand">
        <Mark />
        {words.app}
        <button
          type="button"
          class="act"
          aria-label={words.list.fresh}
          title={`${words.list.fresh} (Ctrl+Shift+O)`}
          onClick={() => {
            go(undefined);
            drawer.value = false;
          }}
        >
          <Icon name="write" />
        </button>
        <button
          ref={shut}
          type="button"
          class="act shut"
          aria-label={words.list.close}
          onClick={() => {
            drawer.value = false;
          }}
        >
          <Icon name="close" />
        </button>
      </div>
      <button
        type="button"
        class="find"
        onClick={() => {
          overlay.value = { is: 'palette' };
        }}
        aria-keyshortcuts="Control+K"
      >
        <Icon name="search" />
        <span>{words.list.search}</span>
        <kbd aria-hidden="true">Ctrl K</kbd>
      </button>
      <div class="days">
        {groups(items, now).map(([group, rows]) => (
          <section key={group} aria-label={group}>
            <h2>{group}</h2>
            <ul>
              {rows.map((item) => (
                <Row key={item.id} item={item} now={now} />
              ))}
            </ul>
          </section>
        ))}
        {items.length === 0 && listKnown.value && <p class="nothing">{words.list.empty}</p>}
        {items.length >= PAGE && more !== 'no' && (
          <button type="button" class="chip older-list" disabled={more === 'busy'} onClick={loadMore}>
            {words.list.more}
          </button>
        )}
      </div>
      <div class="self">
        <span class="me" aria-hidden="true">
          {Array.from(name)[0]?.toLocaleUpperCase()}
        </span>
        <span class="grow">
          <b dir="auto">{name}</b>
          <span class="quiet">
            {line.value.is === 'online' || me.value !== undefined
              ? me.value?.guest === false
                ? '\u00a0'
                : words.list.guestNote
              : words.list.offline}
          </span>
        </span>
        <button
          type="button"
          class="act"
          aria-label={words.list.settings}
          title={words.list.settings}
          onClick={() => {
            overlay.value = { is: 'settings' };
          }}
        >
          <Icon name="tune" />
        </button>
      </div>
    </nav>
  );
}
