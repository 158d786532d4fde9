/**
 * The page's state and what can be done with it. Signals hold what is drawn; the client module holds the truth. The
 * state of a conversation is taken over at most once a frame, however many events arrive.
 */
import { computed, signal } from '@preact/signals';
import type {
  Conversation,
  ConversationState,
  ConversationSummary,
  KithClient,
  LineState,
  Me,
  PersonaCard,
  Store,
} from '@kith/client';
import { Drafts } from './drafts';
import { painter } from './frame';
import { loadAnswers } from './md/load';
import { titleFrom, words } from './words';

/** Conversations kept open beside the one in view, so that going back shows them at once. */
const OPEN_MAX = 4;

export const line = signal<LineState>({ is: 'connecting', since: Date.now() });
/** The line was lost and is not back: stays true through the tries in between. */
export const lost = signal(false);
export const me = signal<Me | undefined>(undefined);
export const list = signal<ConversationSummary[]>([]);
export const listKnown = signal(false);
/** The conversation in view, by the address; undefined = a new one. */
export const current = signal<string | undefined>(undefined);
export const state = signal<ConversationState | undefined>(undefined);
export const chosenPersona = signal<string | undefined>(undefined);
/** First message of a conversation that is being made; kept until it is. */
export const first = signal<{ text: string; failed: boolean } | undefined>(undefined);
export const drawer = signal(false);
/** Runs that the reader has stopped, with the text they saw: shown so until the log says how it ended. */
export const stopped = signal<ReadonlyMap<string, string>>(new Map());
/** What the polite status region says. */
export const said = signal('');
export const overlay = signal<
  undefined | { is: 'palette' | 'settings' | 'keys' } | { is: 'rename' | 'remove'; conv: string; title: string }
>(undefined);

export const personas = computed<PersonaCard[]>(() => me.value?.personas ?? []);
export const summary = computed(() => list.value.find((item) => item.id === current.value));
export const title = computed(() => state.value?.title || summary.value?.title || '');

export function personaOf(id: string | undefined): PersonaCard | undefined {
  return personas.value.find((p) => p.id === id) ?? (id === undefined ? personas.value[0] : undefined);
}

/** Who answers here: the persona of the conversation, else whoever wrote last, else the first one there is. */
export const persona = computed<{ id: string; name: string }>(() => {
  if (current.value === undefined)
    return personaOf(chosenPersona.value) ?? personaOf(undefined) ?? { id: '', name: words.state.fallback };
  const known = personaOf(state.value?.persona ?? summary.value?.persona);
  const run = state.value?.runs.find((r) => r.by.kind === 'ai')?.by;
  const speaker = run ?? state.value?.messages.findLast((m) => m.by.kind === 'ai')?.by;
  if (speaker?.name) return { id: speaker.id, name: speaker.name };
  return (
    known ?? personaOf(speaker?.id) ?? personaOf(undefined) ?? { id: speaker?.id ?? '', name: words.state.fallback }
  );
});

let client: KithClient;
let store: Store;
export let drafts: Drafts;
const open = new Map<string, { conversation: Conversation; leave: () => void }>();

export function say(text: string): void {
  said.value = text;
}

function opened(id: string): Conversation {
  const known = open.get(id);
  if (known !== undefined) {
    open.delete(id);
    open.set(id, known);
    return known.conversation;
  }
  const conversation = client.conversation(id);
  const leave = conversation.subscribe(() => {
    if (id === current.value) paint();
  });
  open.set(id, { conversation, leave });
  for (const [other, held] of open) {
    if (open.size <= OPEN_MAX) break;
    if (other === id || other === current.value || held.conversation.state.outgoing.length > 0) continue;
    held.leave();
    held.conversation.close();
    open.delete(other);
  }
  return conversation;
}

const paint = painter(() => {
  const id = current.value;
  const next = id === undefined ? undefined : open.get(id)?.conversation.state;
  if (next !== undefined) state.value = next;
});

export function conversation(): Conversation | undefined {
  return current.value === undefined ? undefined : open.get(current.value)?.conversation;
}

/** Takes up what the address names. */
function follow(): void {
  const found = /^#(c_[A-Za-z0-9_-]{1,62})$/.exec(location.hash);
  const id = found?.[1];
  drawer.value = false;
  if (id === current.value && (id === undefined || state.value !== undefined)) return;
  current.value = id;
  state.value = id === undefined ? undefined : opened(id).state;
}

export function go(id: string | undefined, replace = false): void {
  const hash = id === undefined ? '#' : `#${id}`;
  if (replace) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
  follow();
}

/** Sends in the conversation in view, or makes one first. */
export async function send(text: string): Promise<void> {
  const here = conversation();
  if (here === undefined) {
    await begin(text);
    return;
  }
  const untitled = title.value === '' && (state.value?.messages.length ?? 0) === 0 && !state.value?.older;
  drafts.clear(here.id, text);
  const sent = here.send(text);
  if (untitled) void nameIt(here.id, text, sent);
  await sent;
}

/** An empty title becomes the first line of the first message, once that message is stored. */
async function nameIt(id: string, text: string, sent: Promise<unknown>): Promise<void> {
  try {
    const outcome = (await sent) as { status?: string } | undefined;
    if (outcome !== undefined && outcome.status === 'refused') return;
    const name = titleFrom(text);
    if (name !== '') await client.rename(id, name);
  } catch {
    /* A conversation without a name is shown by its last line. */
  }
}

export async function begin(text: string): Promise<void> {
  drafts.clear('new', text);
  first.value = { text, failed: line.value.is !== 'online' };
  void store.set('page:first', text).catch(() => undefined);
  if (first.value.failed) return;
  void loadAnswers();
  try {
    const wanted = chosenPersona.value;
    const id = await client.create(wanted === undefined ? {} : { persona: wanted });
    const made = opened(id);
    const sent = made.send(text);
    void store.delete('page:first').catch(() => undefined);
    if (current.value === undefined) go(id, true);
    first.value = undefined;
    void nameIt(id, text, sent);
    await sent;
  } catch {
    first.value = { text, failed: true };
  }
}

/** Takes the unsent first message back into the composer. */
export function takeFirst(): string {
  const text = first.value?.text ?? '';
  first.value = undefined;
  void store.delete('page:first').catch(() => undefined);
  return text;
}

/** Stops what is being written. The text stays as it is on the screen until the log has it. */
export function stop(): void {
  const here = conversation();
  const running = state.value?.runs.filter((r) => r.st !== 'queued') ?? [];
  const targets = running.length > 0 ? running : (state.value?.runs ?? []);
  if (here === undefined || targets.length === 0) return;
  const next = new Map(stopped.value);
  for (const run of targets) next.set(run.run, run.text);
  stopped.value = next;
  say(words.live.stopped);
  for (const run of targets) {
    here.stop(run.run).catch(() => {
      const undone = new Map(stopped.value);
      undone.delete(run.run);
      stopped.value = undone;
      say(words.answer.refusedAct);
    });
  }
}

export async function again(msg: string, goOn: boolean): Promise<void> {
  try {
    const outcome = await conversation()?.regenerate(msg, goOn ? { continue: true } : {});
    if (outcome?.status === 'refused') say(words.answer.refusedAct);
  } catch {
    say(words.answer.refusedAct);
  }
}

export const rename = (conv: string, name: string): Promise<void> => client.rename(conv, name);
export async function remove(conv: string): Promise<void> {
  await client.remove(conv);
  const held = open.get(conv);
  if (held !== undefined) {
    held.leave();
    held.conversation.close();
    open.delete(conv);
  }
  if (current.value === conv) go(undefined, true);
  say(words.live.removed);
}
export const moreOfList = (): Promise<void> => client.loadMoreList();
export const tryNow = (): void => {
  client.connect();
};

/** Looks for conversations on the server; what the list holds is matched by the caller. */
export async function find(query: string): Promise<ConversationSummary[]> {
  try {
    const found = await client.call<{ items?: ConversationSummary[] }>('conv.list', { query, limit: 20 });
    return found.items ?? [];
  } catch {
    return [];
  }
}

/** The server's word on whether a model can answer, asked only while a message waits. */
export async function readiness(): Promise<'ready' | 'loading' | 'none'> {
  try {
    const answer = await fetch('/readyz', { cache: 'no-store' });
    if (answer.ok) return 'ready';
    return /\b(?:re)?(?:starting|loading)\b/i.test(await answer.text()) ? 'loading' : 'none';
  } catch {
    return 'ready';
  }
}

function onLine(next: LineState): void {
  const was = line.value.is;
  line.value = next;
  if (next.is === 'online') {
    if (lost.value) say(words.live.back);
    lost.value = false;
    const waits = first.value;
    if (waits?.failed && was !== 'online') void begin(waits.text);
  } else if (next.is !== 'connecting') {
    lost.value = true;
  }
}

export async function start(made: KithClient, kept: Store): Promise<void> {
  client = made;
  store = kept;
  drafts = new Drafts(kept);
  try {
    const [known, unsent] = await Promise.all([kept.get<Me>('page:me'), kept.get<string>('page:first')]);
    if (known !== undefined && me.value === undefined) me.value = known;
    if (unsent !== undefined) first.value = { text: unsent, failed: true };
  } catch {
    /* Without a store the page only starts a little emptier. */
  }
  line.value = client.line;
  client.onLine(onLine);
  client.onMe((next) => {
    me.value = next;
    void kept.set('page:me', { ...next, token: undefined }).catch(() => undefined);
  });
  const takeList = painter(() => {
    list.value = client.list;
    listKnown.value = true;
  });
  client.onList(takeList);
  client.connect();
  addEventListener('hashchange', follow);
  addEventListener('popstate', follow);
  follow();
}
