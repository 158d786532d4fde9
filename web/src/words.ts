/**
 * Everything the page says, in one place. Each refusal and each failure has its own sentence: what happened, whether
 * anything was stored, what to do now. Sentences are ours; what a server sends as a message is shown only as detail.
 */

const time = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
/** The words are English; how a day is written follows the reader where that is English too. */
const EN = typeof navigator !== 'undefined' && navigator.language.startsWith('en') ? navigator.language : 'en';
const weekday = new Intl.DateTimeFormat(EN, { weekday: 'long' });
const weekdayShort = new Intl.DateTimeFormat(EN, { weekday: 'short' });
const dayMonth = new Intl.DateTimeFormat(EN, { day: 'numeric', month: 'long' });
const dayMonthYear = new Intl.DateTimeFormat(EN, { day: 'numeric', month: 'long', year: 'numeric' });
const dayShort = new Intl.DateTimeFormat(EN, { day: 'numeric', month: 'short' });
const whole = new Intl.DateTimeFormat(EN, { dateStyle: 'long', timeStyle: 'short' });
const number = new Intl.NumberFormat('en');

const DAY = 86_400_000;
const midnight = (ts: number): number => new Date(ts).setHours(0, 0, 0, 0);
const daysAgo = (ts: number, now: number): number => Math.round((midnight(now) - midnight(ts)) / DAY);

export const clock = (ts: number): string => time.format(ts);
export const moment = (ts: number): string => whole.format(ts);
export const count = (n: number): string => number.format(n);

/** Name of a day, as a heading between messages. */
export function dayName(ts: number, now: number): string {
  const ago = daysAgo(ts, now);
  if (ago <= 0) return 'Today';
  if (ago === 1) return 'Yesterday';
  if (ago < 7) return weekday.format(ts);
  return new Date(ts).getFullYear() === new Date(now).getFullYear() ? dayMonth.format(ts) : dayMonthYear.format(ts);
}

/** Group of the list of conversations that a time falls into. */
export function groupName(ts: number, now: number): string {
  const ago = daysAgo(ts, now);
  if (ago <= 0) return 'Today';
  if (ago === 1) return 'Yesterday';
  if (ago < 7) return 'This week';
  if (ago < 31) return 'This month';
  return 'Earlier';
}

/** The short time at the end of a row of the list. */
export function stamp(ts: number, now: number): string {
  const ago = daysAgo(ts, now);
  if (ago <= 1) return clock(ts);
  return ago < 7 ? weekdayShort.format(ts) : dayShort.format(ts);
}

/** 75 s is "1:15", 2 h is "2:00:00". */
export function countdown(ms: number): string {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const two = (n: number): string => String(n).padStart(2, '0');
  return s >= 3600
    ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`
    : `${Math.floor(s / 60)}:${two(s % 60)}`;
}

const PLACES = ['Next', '2nd', '3rd'];
export const place = (index: number): string => PLACES[index] ?? `${index + 1}th`;

export function greet(now: number, name: string | undefined): string {
  const hour = new Date(now).getHours();
  const part = hour < 5 ? 'Good night' : hour < 12 ? 'Good morning' : hour < 18 ? 'Good afternoon' : 'Good evening';
  return name === undefined || name === '' ? `${part}.` : `${part}, ${name}.`;
}

export interface Notice {
  head: string;
  body: string;
}

/** Refusals that pass: `body` is followed by "It goes by itself in 0:42." */
const PASSING: Record<string, Notice> = {
  rate_limited: { head: 'Not sent yet.', body: 'That was a lot of messages in a short time.' },
  quota_exceeded: {
    head: 'Not sent: your allowance is used up.',
    body: 'Nothing was stored. It fills up again with time.',
  },
  credit_needed: {
    head: 'Not sent: there is no credit left.',
    body: 'Nothing was stored. Once credit is added, send this again.',
  },
  busy: { head: 'Not sent yet.', body: 'Enough messages are waiting for their answers in this conversation.' },
  overloaded: { head: 'Not sent yet: the server is very busy.', body: 'Nothing was lost or stored.' },
  human_mode: { head: 'Not sent yet.', body: 'A person has taken over this conversation and answers first.' },
};
const FINAL: Record<string, Notice> = {
  blocked: {
    head: 'This can’t be sent.',
    body: 'It goes against the rules of this server. Nothing was stored or passed on. Change it, and the rest can go.',
  },
  too_long: { head: 'This is too long for one message.', body: 'Nothing was stored. Shorten it, or send it in parts.' },
  closed: {
    head: 'This conversation is closed.',
    body: 'What was said stays readable; nothing new can be added. Start a new conversation to go on.',
  },
  age_required: {
    head: 'This needs proof of age.',
    body: 'Nothing was stored. It can be sent once your age is confirmed.',
  },
  region_restricted: { head: 'This isn’t available where you are.', body: 'Nothing was stored or passed on.' },
};

export function refusal(code: string, final: boolean): Notice {
  const table = final ? FINAL : PASSING;
  const other = final ? PASSING : FINAL;
  if (Object.hasOwn(table, code) && table[code]) return table[code];
  if (Object.hasOwn(other, code) && other[code]) return other[code];
  return final
    ? { head: 'This can’t be sent.', body: 'Nothing was stored. Your text is kept here.' }
    : { head: 'Not sent yet.', body: 'The server asked to wait. Nothing was stored.' };
}

/** Failures to hand a message over: by the protocol's error code. */
export function failure(code: number): Notice {
  switch (code) {
    case 103:
      return { head: 'You may not write here.', body: 'Nothing was stored. Your text is kept here.' };
    case 404:
      return { head: 'This conversation is gone.', body: 'Nothing was stored. Copy your text before you leave.' };
    case 409:
      return {
        head: 'Could not be sent.',
        body: 'A different message already went under the same number. Edit it and send it anew.',
      };
    case 413:
      return {
        head: 'This is too long for one message.',
        body: 'Nothing was stored. Shorten it, or send it in parts.',
      };
    case 503:
      return {
        head: 'Could not be stored.',
        body: 'The server’s storage is out of reach. Your text is kept here; Retry sends it once, never twice.',
      };
    default:
      return { head: 'Could not be sent.', body: 'Your text is kept here; Retry sends it once, never twice.' };
  }
}

/** Why an answer ended before its end. `kept` = some of it was written. */
const ENDED: Record<string, Notice> = {
  interrupted: { head: 'The answer stopped here.', body: 'The server was restarted in the middle of it.' },
  restart: { head: 'The answer stopped here.', body: 'The server was restarted in the middle of it.' },
  upstream_error: { head: 'The model reported a fault.', body: 'It could not go on with this answer.' },
  upstream_refused: { head: 'The model could not be reached.', body: 'The connection to it was refused.' },
  upstream_closed: { head: 'The answer stopped here.', body: 'The line to the model broke.' },
  upstream_garbage: { head: 'The model sent something unreadable.', body: 'The answer was ended there.' },
  first_token_timeout: {
    head: 'The model did not begin to answer.',
    body: 'It was given up after waiting for its first word.',
  },
  idle_timeout: { head: 'The model fell silent.', body: 'It was given up in the middle of the answer.' },
  model_unavailable: { head: 'No model can answer just now.', body: 'Your message is stored.' },
  no_model: { head: 'No model can answer just now.', body: 'Your message is stored.' },
  model_loading: { head: 'The model is still being loaded.', body: 'Your message is stored.' },
  unavailable: { head: 'The answer stopped here.', body: 'The server’s storage could not be read.' },
  unknown_model: {
    head: 'This model isn’t there any more.',
    body: 'Whoever runs this server has taken it away or renamed it.',
  },
  content_filter: { head: 'The model’s own filter ended this answer.', body: 'It would not go on with this subject.' },
  queue_timeout: { head: 'The answer waited too long for its turn.', body: 'The model was busy with others.' },
  overloaded: { head: 'The model is overloaded.', body: 'Your message is stored.' },
  rate_limited: { head: 'The model’s provider asks for a pause.', body: 'Too much was asked of it in a short time.' },
  context_too_long: {
    head: 'This conversation has outgrown the model.',
    body: 'It can no longer take in your last message. Start a new conversation to go on.',
  },
  store_unavailable: { head: 'The answer could not be stored.', body: 'The server’s storage is out of reach.' },
  shutdown: { head: 'The answer stopped here.', body: 'The server was shut down in the middle of it.' },
};

export function ending(why: string | undefined, kept: boolean): Notice {
  const found = why !== undefined && Object.hasOwn(ENDED, why) ? ENDED[why] : undefined;
  const notice = found ?? { head: 'The answer stopped here.', body: 'Something went wrong while it was being made.' };
  return {
    head: notice.head,
    body: kept ? `${notice.body} All you have read is kept.` : `${notice.body} Nothing had been written yet.`,
  };
}

export const words = {
  app: 'kith',
  skip: 'Skip to the message field',
  copy: 'Copy',
  copied: 'Copied',
  copyFailed: 'Could not be copied',
  list: {
    name: 'Conversations',
    fresh: 'New conversation',
    search: 'Search',
    close: 'Close the list',
    open: (unread: number): string => (unread > 0 ? `Conversations, ${unread} unread` : 'Conversations'),
    unread: (n: number): string => `${n} unread`,
    untitled: 'New conversation',
    running: 'Writing an answer',
    more: 'Show earlier conversations',
    empty: 'What you talk about is listed here.',
    menu: (title: string): string => `More for “${title}”`,
    guest: 'Guest',
    guestNote: 'Known to this browser only',
    offline: 'Not connected',
    settings: 'Settings',
    noName: 'You',
  },
  bar: {
    more: 'More',
    rename: 'Rename',
    remove: 'Delete',
    fresh: 'New conversation',
    keys: 'Keyboard shortcuts',
    settings: 'Settings',
  },
  menuName: 'Conversation menu',
  state: {
    writing: (who: string): string => `${who} is writing`,
    thinking: (who: string): string => `${who} is thinking`,
    tool: (who: string): string => `${who} is looking something up`,
    saving: 'Waiting for storage',
    queued: 'Waiting for its turn',
    offline: (since: string): string => `Offline since ${since}`,
    connecting: 'Connecting',
    fallback: 'Assistant',
  },
  transcript: {
    region: 'Messages',
    log: 'Conversation',
    heading: (title: string, who: string): string => `${title}, with ${who}`,
    you: (when: string): string => `You, ${when}`,
    youState: (when: string, state: string): string => `You, ${when}, ${state}`,
    earlier: 'Earlier messages',
    loadingEarlier: 'Loading',
    fresh: (n: number): string => `${n} new`,
    freshLabel: (n: number): string => (n === 1 ? '1 new message' : `${n} new messages`),
    loading: 'Opening the conversation',
    latest: 'Latest',
    latestNew: (n: number): string => `Latest (${n} new)`,
    whole: 'Show all of it',
    less: 'Show less',
    role: { agent: 'Support', system: 'Notice' },
    sending: 'Sending',
    waiting: 'Waits for the line',
    notSent: 'not sent',
    refused: 'refused',
    deleted: 'This message was removed.',
  },
  answer: {
    acts: 'Actions for this answer',
    yourActs: 'Actions for your message',
    again: 'Again',
    continue: 'Continue',
    details: 'About this answer',
    stopped: 'You stopped this answer.',
    cancelled: 'Ended, because your next message asked for that.',
    stoppedEmpty: 'You stopped this answer before it began.',
    empty: 'This answer is empty.',
    length: { head: 'The answer reached its length limit.', body: 'Continue makes it go on from here.' },
    blocked: {
      head: 'This answer was withdrawn.',
      body: 'It went against the rules of this server, so it is not shown.',
    },
    thinking: 'Thinking',
    model: 'Model',
    written: 'Written',
    tokens: 'Tokens',
    id: 'Number',
    tokensValue: (inn: number, out: number): string => `${count(inn)} read, ${count(out)} written`,
    queued: 'Waiting for its turn',
    queuedPos: (n: number): string => `Waiting for its turn, ${n === 1 ? 'next' : `${n} before it`}`,
    eta: (s: number): string => `about ${s} s`,
    loading: {
      head: 'The model is still being loaded.',
      body: 'Your message is stored and is answered as soon as the model is ready.',
    },
    none: {
      head: 'No model can answer just now.',
      body: 'Your message is stored and is answered when one can. Whoever runs this server sets them up under “models”.',
    },
    saving: 'The answer is there; storage is out of reach for a moment.',
    tool: 'Looking something up',
    refusedAct: 'That could not be done just now. Try again in a moment.',
  },
  wait: { name: 'Waiting for their turn', stop: 'Don’t answer this one', next: 'Next' },
  code: {
    plain: 'Code',
    region: (name: string): string => `Code: ${name}`,
    copy: 'Copy code',
    wrap: 'Wrap lines',
    save: 'Download',
  },
  table: { name: 'Table', copy: 'Copy table', save: 'Download as CSV' },
  composer: {
    name: 'Your message',
    label: 'Message',
    placeholder: 'Write a message',
    to: (who: string): string => `Write to ${who}`,
    send: 'Send',
    sendKey: 'Send (Enter)',
    sendCtrl: 'Send (Ctrl+Enter)',
    stop: 'Stop',
    stopKey: 'Stop (Esc)',
    over: (n: number): string =>
      `${count(n)} ${n === 1 ? 'character' : 'characters'} too long. Shorten it, or send it in parts.`,
    hintEnter: 'Answers are written by AI and can be wrong. Enter sends, Shift+Enter starts a new line.',
    hintCtrl: 'Answers are written by AI and can be wrong. Ctrl+Enter sends, Enter starts a new line.',
    hintTouch: 'Answers are written by AI and can be wrong.',
  },
  outgoing: {
    retry: 'Retry',
    edit: 'Edit',
    editSend: 'Edit and send',
    drop: 'Don’t send',
    fresh: 'New conversation',
    goes: 'It goes by itself in ',
    goesEnd: '.',
  },
  banner: {
    offline: 'You are offline.',
    offlineBody: 'What you write is kept here and sent in order when the line is back.',
    now: 'Try now',
    closed: 'The server has ended this session.',
    closedBody: 'Your drafts are kept. Reload the page to come back.',
    reload: 'Reload',
    stranger: 'This server asks who you are.',
    strangerBody: 'Open this page from the application that sent you here, so that it can say so.',
  },
  welcome: {
    ideas: 'Suggestions',
    personas: 'Who answers',
    intro: (who: string): string => `I’m ${who}. What shall we talk about?`,
  },
  gone: {
    head: 'This conversation isn’t here.',
    body: 'It was deleted, or it belongs to somebody else.',
    fresh: 'New conversation',
  },
  first: { failed: 'The conversation could not be started.', retry: 'Try again' },
  live: {
    answering: (who: string): string => `${who} is answering`,
    ready: 'Answer ready',
    stopped: 'Answer stopped',
    failed: 'The answer ended early',
    back: 'Back online',
    lost: 'A message could not be sent',
    renamed: 'Renamed',
    removed: 'Conversation deleted',
  },
  rename: {
    head: 'Rename this conversation',
    label: 'Name',
    save: 'Save',
    cancel: 'Cancel',
    failed: 'It could not be renamed. Try again in a moment.',
  },
  remove: {
    head: 'Delete this conversation?',
    body: (title: string): string =>
      `“${title}” and all its messages are deleted on every device. This can’t be undone.`,
    yes: 'Delete',
    no: 'Keep it',
    failed: 'It could not be deleted. Try again in a moment.',
  },
  settings: {
    head: 'Settings',
    close: 'Close',
    theme: 'Appearance',
    system: 'As the system',
    light: 'Light',
    dark: 'Dark',
    keys: 'Sending',
    enter: 'Enter sends',
    ctrl: 'Ctrl+Enter sends',
    keysNote: 'On touch screens Enter always starts a new line.',
    version: (v: string): string => `kith ${v}`,
  },
  palette: {
    name: 'Go to',
    placeholder: 'Conversation or command',
    label: 'Find a conversation or a command',
    none: 'Nothing by that name.',
    conversations: 'Conversations',
    commands: 'Commands',
    light: 'Light appearance',
    dark: 'Dark appearance',
    system: 'Appearance as the system',
  },
  sheet: {
    head: 'Keyboard shortcuts',
    rows: [
      [['Ctrl', 'K'], 'Find a conversation or a command'],
      [['Ctrl', 'Shift', 'O'], 'New conversation'],
      [['Esc'], 'Stop the answer, close what is open'],
      [['Enter'], 'Send'],
      [['Shift', 'Enter'], 'New line'],
      [['/'], 'To the message field'],
      [['Alt', '↑'], 'Previous conversation'],
      [['Alt', '↓'], 'Next conversation'],
      [['?'], 'This sheet'],
    ] as [string[], string][],
  },
} as const;

/** A title from the first message: its first line that says something, without markers, cut at a word. */
export function titleFrom(text: string): string {
  const first =
    text
      .split('\n')
      .map((line) =>
        line
          .replace(/^[\s#>*\-`~_]+/, '')
          .replace(/[*_`]/g, '')
          .trim(),
      )
      .find((line) => line !== '') ?? '';
  if (first.length <= 60) return first;
  const cut = first.slice(0, 60);
  const space = cut.lastIndexOf(' ');
  return `${(space > 30 ? cut.slice(0, space) : cut).replace(/[\ud800-\udbff]$/, '').replace(/[,;:.\s]+$/, '')}…`;
}

/** The last line of a conversation without its markdown. */
export function plainLine(text: string): string {
  return text
    .slice(0, 400)
    .replace(/```[^\n]*\n?/g, '')
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/^[ \t]*(?:[#>]+|[-+*]|\d+[.)])[ \t]+/gm, '')
    .replace(/(\*\*|__|\*|_|`|~~)(?=\S)|(?<=\S)(\*\*|__|\*|_|`|~~)/g, '')
    .replace(/\|?[ \t]*:?-{3,}:?[ \t]*\|?/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
}
