/** Small parts that several views share. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';

export function Icon({ name, flips }: { name: string; flips?: boolean }): JSX.Element {
  return (
    <svg class={flips ? 'icon turns' : 'icon'} aria-hidden="true">
      <use href={`#i-${name}`} />
    </svg>
  );
}

export function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 24 24" aria-hidden="true">
      <path class="mark-them" d="M2.5 9.2a6.7 6.7 0 1 1 6.7 6.7H4.3a1.8 1.8 0 0 1-1.8-1.8z" />
      <path class="mark-me" d="M21.3 15.2a6.1 6.1 0 1 0-6.1 6.1h4.5a1.6 1.6 0 0 0 1.6-1.6z" />
    </svg>
  );
}

const TONES = 6;
function tone(id: string): number {
  let sum = 0;
  for (let i = 0; i < id.length; i++) sum = (sum * 31 + id.charCodeAt(i)) >>> 0;
  return sum % TONES;
}

function initial(name: string): string {
  return Array.from(name.trim())[0]?.toLocaleUpperCase() ?? '·';
}

/** A portrait: the built-in persona has hers, others their initial on one of six quiet tones, always the same one. */
export function Face({ id, name, size }: { id: string; name: string; size?: 'tiny' | 'big' }): JSX.Element {
  const extra = size === undefined ? '' : ` ${size}`;
  if (id === 'p_default' || name === 'Kit') {
    return (
      <span class={`face${extra}`} aria-hidden="true">
        <svg viewBox="0 0 40 40">
          <use href="#p-kit" />
        </svg>
      </span>
    );
  }
  return (
    <span class={`face letter tone-${tone(id || name)}${extra}`} aria-hidden="true">
      <span>{initial(name)}</span>
    </span>
  );
}

export interface MenuItem {
  name: string;
  sign: string;
  danger?: boolean;
  keys?: string;
  act: () => void;
}

/** A button with a menu: arrows move, Esc and a click elsewhere close, focus comes back to the button. */
export function Menu({
  label,
  items,
  round,
  children,
  onOpen,
}: {
  label: string;
  items: MenuItem[];
  round?: boolean;
  children?: ComponentChildren;
  onOpen?: (open: boolean) => void;
}): JSX.Element {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();

  const shut = (back: boolean): void => {
    setOpen(false);
    onOpen?.(false);
    if (back) button.current?.focus();
  };
  const focusAt = (step: number): void => {
    const all = Array.from(root.current?.querySelectorAll<HTMLElement>('[role="menuitem"]') ?? []);
    const at = all.indexOf(document.activeElement as HTMLElement);
    all[(at + step + all.length) % all.length]?.focus();
  };
  useLayoutEffect(() => {
    if (!open) return undefined;
    const card = root.current?.querySelector<HTMLElement>('.menu');
    /* Near the foot of the window the menu opens upward. */
    if (card && card.getBoundingClientRect().bottom > innerHeight - 8) card.classList.add('up');
    card?.querySelector<HTMLElement>('[role="menuitem"]')?.focus({ preventScroll: true });
    const away = (event: Event): void => {
      if (!root.current?.contains(event.target as Node)) shut(false);
    };
    document.addEventListener('pointerdown', away, true);
    return () => {
      document.removeEventListener('pointerdown', away, true);
    };
  }, [open]);

  const onKey = (event: KeyboardEvent): void => {
    if (!open) return;
    if (event.key === 'Escape') {
      event.preventDefault();
      event.stopPropagation();
      shut(true);
    }
    if (event.key === 'ArrowDown') {
      event.preventDefault();
      focusAt(1);
    }
    if (event.key === 'ArrowUp') {
      event.preventDefault();
      focusAt(-1);
    }
    if (event.key === 'Tab') shut(false);
  };
  return (
    <div class="has-menu" ref={root} onKeyDown={onKey}>
      <button
        ref={button}
        type="button"
        class={round ? 'act round' : 'act'}
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => {
          setOpen(!open);
          onOpen?.(!open);
        }}
      >
        {children ?? <Icon name="more" />}
      </button>
      {open && (
        <div class="menu card" role="menu" id={id} aria-label={label}>
          {items.map((item) => (
            <button
              key={item.name}
              type="button"
              role="menuitem"
              tabIndex={-1}
              class={item.danger ? 'danger' : undefined}
              onClick={() => {
                shut(true);
                item.act();
              }}
            >
              <Icon name={item.sign} />
              <span>{item.name}</span>
              {item.keys !== undefined && <kbd aria-hidden="true">{item.keys}</kbd>}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

/** A button with a small card of facts. */
export function Facts({ label, rows }: { label: string; rows: [string, string][] }): JSX.Element {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();
  useLayoutEffect(() => {
    if (!open) return undefined;
    const card = root.current?.querySelector<HTMLElement>('.facts');
    const dock = document.querySelector('.dock')?.getBoundingClientRect().top ?? innerHeight;
    if (card && card.getBoundingClientRect().bottom > dock) card.classList.add('up');
    const away = (event: Event): void => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    const key = (event: KeyboardEvent): void => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      setOpen(false);
    };
    document.addEventListener('pointerdown', away, true);
    document.addEventListener('keydown', key, true);
    return () => {
      document.removeEventListener('pointerdown', away, true);
      document.removeEventListener('keydown', key, true);
    };
  }, [open]);
  return (
    <div class="has-menu" ref={root}>
      <button
        type="button"
        class="act"
        aria-label={label}
        title={label}
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => {
          setOpen(!open);
        }}
      >
        <Icon name="info" />
      </button>
      {open && (
        <dl class="facts card" id={id}>
          {rows.map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

/** The time, anew each `ms`, while `on`. */
export function useNow(ms: number, on = true): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!on) return undefined;
    setNow(Date.now());
    const timer = setInterval(() => {
      setNow(Date.now());
    }, ms);
    return () => {
      clearInterval(timer);
    };
  }, [ms, on]);
  return now;
}

/** True once `ms` have passed since `what` last changed and `on` held all the time: for signs that must not flash. */
export function useLate(on: boolean, ms: number, what?: unknown): boolean {
  const [late, setLate] = useState(false);
  useEffect(() => {
    setLate(false);
    if (!on) return undefined;
    const timer = setTimeout(() => {
      setLate(true);
    }, ms);
    return () => {
      clearTimeout(timer);
    };
  }, [on, ms, what]);
  return on && late;
}
