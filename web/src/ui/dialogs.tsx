/** What opens over the page: the palette, the settings, the sheet of keys, rename and delete. Native dialogs hold the focus. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { ConversationSummary } from '@kith/client';
import { find, go, list, me, overlay, personaOf, remove, rename, say } from '../app';
import { sendKey, setSendKey, setTheme, theme, type SendKey, type Theme } from '../prefs';
import { plainLine, stamp, words } from '../words';
import { Face, Icon } from './parts';

function shut(): void {
  overlay.value = undefined;
}

function Dialog({ label, cls, children }: { label: string; cls: string; children: ComponentChildren }): JSX.Element {
  const ref = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const before = document.activeElement;
    const dialog = ref.current;
    dialog?.showModal();
    return () => {
      /* What is behind a modal dialog takes no focus: it is closed first. */
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected && before !== document.body) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      class={`over-all ${cls}`}
      aria-label={label}
      onCancel={(event) => {
        event.preventDefault();
        shut();
      }}
      onClick={(event) => {
        if (event.target === ref.current) shut();
      }}
    >
      <div class="card">{children}</div>
    </dialog>
  );
}

interface Choice {
  id: string;
  name: string;
  note?: string;
  sign?: string;
  item?: ConversationSummary;
  keys?: string;
  act: () => void;
}

function commands(): Choice[] {
  return [
    {
      id: 'x-new',
      name: words.bar.fresh,
      sign: 'write',
      keys: 'Ctrl Shift O',
      act: () => {
        go(undefined);
      },
    },
    {
      id: 'x-light',
      name: words.palette.light,
      sign: 'sun',
      act: () => {
        setTheme('light');
      },
    },
    {
      id: 'x-dark',
      name: words.palette.dark,
      sign: 'moon',
      act: () => {
        setTheme('dark');
      },
    },
    {
      id: 'x-system',
      name: words.palette.system,
      sign: 'tune',
      act: () => {
        setTheme('system');
      },
    },
    {
      id: 'x-settings',
      name: words.bar.settings,
      sign: 'tune',
      act: () => {
        overlay.value = { is: 'settings' };
      },
    },
    {
      id: 'x-keys',
      name: words.bar.keys,
      sign: 'keys',
      keys: '?',
      act: () => {
        overlay.value = { is: 'keys' };
      },
    },
  ];
}

function conversations(items: ConversationSummary[]): Choice[] {
  return items.map((item) => ({
    id: item.id,
    name: item.title || plainLine(item.last ?? '').slice(0, 60) || words.list.untitled,
    note: stamp(item.updated, Date.now()),
    item,
    act: () => {
      go(item.id);
    },
  }));
}

function Palette(): JSX.Element {
  const [query, setQuery] = useState('');
  const [at, setAt] = useState(0);
  const [found, setFound] = useState<ConversationSummary[]>([]);
  const box = useRef<HTMLDivElement>(null);
  const id = useId();
  const wanted = query.trim().toLocaleLowerCase();
  const has = (text: string): boolean => wanted.split(/\s+/).every((word) => text.toLocaleLowerCase().includes(word));
  const near = list.value.filter((item) => wanted === '' || has(`${item.title} ${item.last ?? ''}`));
  const far = found.filter((item) => !near.some((n) => n.id === item.id));
  const talks = conversations([...near, ...far].slice(0, wanted === '' ? 6 : 30));
  const acts = commands().filter((c) => wanted === '' || has(c.name));
  const all = [...talks, ...acts];
  const chosen = Math.min(at, all.length - 1);
  useEffect(() => {
    setFound([]);
    if (wanted.length < 2) return undefined;
    let on = true;
    const timer = setTimeout(() => {
      void find(query.trim()).then((items) => {
        if (on) setFound(items);
      });
    }, 150);
    return () => {
      on = false;
      clearTimeout(timer);
    };
  }, [wanted]);
  useLayoutEffect(() => {
    box.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }, [chosen]);

  const take = (choice: Choice | undefined): void => {
    if (choice === undefined) return;
    shut();
    choice.act();
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === 'ArrowDown') {
      event.preventDefault();
      setAt((chosen + 1) % Math.max(all.length, 1));
    }
    if (event.key === 'ArrowUp') {
      event.preventDefault();
      setAt((chosen - 1 + all.length) % Math.max(all.length, 1));
    }
    if (event.key === 'Enter' && !event.isComposing) {
      event.preventDefault();
      take(all[chosen]);
    }
  };
  const row = (choice: Choice): JSX.Element => {
    const p =
      choice.item === undefined
        ? undefined
        : (personaOf(choice.item.persona) ?? personaOf(undefined) ?? { id: '', name: words.state.fallback });
    return (
      <div
        key={choice.id}
        id={`${id}-${choice.id}`}
        role="option"
        class="option"
        aria-selected={all[chosen]?.id === choice.id}
        onClick={() => {
          take(choice);
        }}
        onPointerMove={() => {
          setAt(all.indexOf(choice));
        }}
      >
        {p === undefined ? <Icon name={choice.sign ?? 'next'} /> : <Face id={p.id} name={p.name} size="tiny" />}
        <span class="what" dir="auto">
          {choice.name}
        </span>
        {(choice.note ?? choice.keys) !== undefined && <span class="quiet">{choice.note ?? choice.keys}</span>}
      </div>
    );
  };
  return (
    <Dialog label={words.palette.name} cls="palette">
      <div class="ask-field">
        <Icon name="search" />
        <input
          type="text"
          autofocus
          role="combobox"
          aria-expanded="true"
          aria-controls={`${id}-list`}
          aria-autocomplete="list"
          aria-label={words.palette.label}
          placeholder={words.palette.placeholder}
          aria-activedescendant={all[chosen] === undefined ? undefined : `${id}-${all[chosen].id}`}
          value={query}
          onInput={(event) => {
            setQuery(event.currentTarget.value);
            setAt(0);
          }}
          onKeyDown={onKey}
        />
        <button type="button" class="act" aria-label={words.settings.close} onClick={shut}>
          <Icon name="close" />
        </button>
      </div>
      <div class="options" role="listbox" id={`${id}-list`} aria-label={words.palette.name} ref={box}>
        {talks.length > 0 && (
          <div role="group" aria-label={words.palette.conversations}>
            <div class="group" aria-hidden="true">
              {words.palette.conversations}
            </div>
            {talks.map(row)}
          </div>
        )}
        {acts.length > 0 && (
          <div role="group" aria-label={words.palette.commands}>
            <div class="group" aria-hidden="true">
              {words.palette.commands}
            </div>
            {acts.map(row)}
          </div>
        )}
      </div>
      {all.length === 0 && (
        <p class="nothing" role="status">
          {words.palette.none}
        </p>
      )}
    </Dialog>
  );
}

function Choose<T extends string>({
  legend,
  name,
  value,
  options,
  onPick,
}: {
  legend: string;
  name: string;
  value: T;
  options: [T, string][];
  onPick: (v: T) => void;
}): JSX.Element {
  return (
    <fieldset class="choose">
      <legend>{legend}</legend>
      <div class="row">
        {options.map(([v, label]) => (
          <label key={v} class="seg">
            <input
              type="radio"
              class="unseen"
              name={name}
              checked={v === value}
              onChange={() => {
                onPick(v);
              }}
            />
            {label}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function DialogHead({ text }: { text: string }): JSX.Element {
  return (
    <div class="dialog-head">
      <h2>{text}</h2>
      <button type="button" class="act" aria-label={words.settings.close} onClick={shut}>
        <Icon name="close" />
      </button>
    </div>
  );
}

function Settings(): JSX.Element {
  return (
    <Dialog label={words.settings.head} cls="settings">
      <DialogHead text={words.settings.head} />
      <Choose<Theme>
        legend={words.settings.theme}
        name="theme"
        value={theme.value}
        onPick={setTheme}
        options={[
          ['system', words.settings.system],
          ['light', words.settings.light],
          ['dark', words.settings.dark],
        ]}
      />
      <Choose<SendKey>
        legend={words.settings.keys}
        name="keys"
        value={sendKey.value}
        onPick={setSendKey}
        options={[
          ['enter', words.settings.enter],
          ['ctrl', words.settings.ctrl],
        ]}
      />
      <p class="quiet">{words.settings.keysNote}</p>
      {me.value !== undefined && <p class="quiet version">{words.settings.version(me.value.version)}</p>}
    </Dialog>
  );
}

function Keys(): JSX.Element {
  return (
    <Dialog label={words.sheet.head} cls="keys">
      <DialogHead text={words.sheet.head} />
      <dl>
        {words.sheet.rows.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((k) => (
                <kbd key={k}>{k}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

function Rename({ conv, title }: { conv: string; title: string }): JSX.Element {
  const [failed, setFailed] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    field.current?.select();
  }, []);
  const save = (): void => {
    const name = field.current?.value.trim() ?? '';
    if (name === '' || name === title) {
      shut();
      return;
    }
    rename(conv, name).then(
      () => {
        shut();
        say(words.live.renamed);
      },
      () => {
        setFailed(true);
      },
    );
  };
  return (
    <Dialog label={words.rename.head} cls="small">
      <DialogHead text={words.rename.head} />
      <form
        onSubmit={(event) => {
          event.preventDefault();
          save();
        }}
      >
        <label class="unseen" for="new-name">
          {words.rename.label}
        </label>
        <input id="new-name" ref={field} class="field" dir="auto" maxLength={120} defaultValue={title} autofocus />
        {failed && (
          <p class="fault" role="alert">
            {words.rename.failed}
          </p>
        )}
        <div class="row">
          <button type="button" class="btn bare" onClick={shut}>
            {words.rename.cancel}
          </button>
          <button type="submit" class="btn main">
            {words.rename.save}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Remove({ conv, title }: { conv: string; title: string }): JSX.Element {
  const [failed, setFailed] = useState(false);
  return (
    <Dialog label={words.remove.head} cls="small">
      <DialogHead text={words.remove.head} />
      <p class="body" dir="auto">
        {words.remove.body(title)}
      </p>
      {failed && (
        <p class="fault" role="alert">
          {words.remove.failed}
        </p>
      )}
      <div class="row">
        <button type="button" class="btn bare" autofocus onClick={shut}>
          {words.remove.no}
        </button>
        <button
          type="button"
          class="btn fatal"
          onClick={() => {
            remove(conv).then(shut, () => {
              setFailed(true);
            });
          }}
        >
          {words.remove.yes}
        </button>
      </div>
    </Dialog>
  );
}

export function Overlay(): JSX.Element | null {
  const what = overlay.value;
  if (what === undefined) return null;
  switch (what.is) {
    case 'palette':
      return <Palette key="palette" />;
    case 'settings':
      return <Settings key="settings" />;
    case 'keys':
      return <Keys key="keys" />;
    case 'rename':
      return <Rename key="rename" conv={what.conv} title={what.title} />;
    case 'remove':
      return <Remove key="remove" conv={what.conv} title={what.title} />;
  }
}
