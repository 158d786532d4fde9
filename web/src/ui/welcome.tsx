/** The empty state: who is here, what they say first. A first message whose conversation could not be made waits here too. */
import type { JSX } from 'preact';
import { begin, chosenPersona, current, first, line, lost, me, persona, personaOf, personas, takeFirst } from '../app';
import { greet, words } from '../words';
import { putText } from './composer';
import { Face, Icon, useLate, useNow } from './parts';

function FirstWaits(): JSX.Element | null {
  const slow = useLate(first.value !== undefined && !first.value.failed, 900);
  const held = first.value;
  if (held === undefined) return null;
  return (
    <div class="log" role="log" aria-live="off" aria-label={words.transcript.log}>
      <h1 class="unseen">{words.list.untitled}</h1>
      <article class="turn you" data-out="first">
        <h2 class="unseen">{words.transcript.youState('', words.transcript.notSent)}</h2>
        <div class={held.failed ? 'pill held' : 'pill'}>
          <p dir="auto">{held.text}</p>
        </div>
        <div class="under">
          {held.failed && line.value.is !== 'online' && (
            <>
              <Icon name="clock" />
              <span>{words.transcript.waiting}</span>
            </>
          )}
          {held.failed && line.value.is === 'online' && (
            <>
              <Icon name="alert" />
              <span>{words.first.failed}</span>
              <button
                type="button"
                class="btn bare"
                onClick={() => {
                  void begin(held.text);
                }}
              >
                <Icon name="again" />
                {words.first.retry}
              </button>
            </>
          )}
          {held.failed && (
            <button
              type="button"
              class="btn bare"
              onClick={() => {
                putText(takeFirst());
              }}
            >
              <Icon name="edit" />
              {words.outgoing.edit}
            </button>
          )}
          {!held.failed && slow && (
            <>
              <Icon name="clock" />
              <span>{words.transcript.sending}</span>
            </>
          )}
        </div>
      </article>
    </div>
  );
}

export function Welcome(): JSX.Element | null {
  const now = useNow(60_000);
  const slow = useLate(me.value === undefined, 600);
  if (first.value !== undefined && current.value === undefined) return <FirstWaits />;
  if (me.value === undefined)
    return slow ? (
      <div class="log welcome">
        <h1>{greet(now, undefined)}</h1>
        <p>{lost.value ? words.banner.offline : words.state.connecting}</p>
      </div>
    ) : null;
  const who = persona.value;
  const card = personaOf(who.id);
  const name = me.value.guest ? undefined : me.value.name;
  return (
    <div class="log welcome">
      <Face id={who.id} name={who.name} size="big" />
      <h1 dir="auto">{greet(now, name)}</h1>
      <p dir="auto">{card?.greeting || words.welcome.intro(who.name)}</p>
      {current.value === undefined && personas.value.length > 1 && (
        <div class="casting" role="radiogroup" aria-label={words.welcome.personas}>
          {personas.value.map((p) => (
            <label key={p.id} class="chip">
              <input
                type="radio"
                name="persona"
                class="unseen"
                checked={p.id === who.id}
                onChange={() => {
                  chosenPersona.value = p.id;
                }}
              />
              <Face id={p.id} name={p.name} size="tiny" />
              {p.name}
            </label>
          ))}
        </div>
      )}
    </div>
  );
}
