// The texts of the page. Client data is never part of them; it is shown separately, as text.

const STRICTNESS = ['off', 'observe', 'enforce'];

const SOURCES = {
  request: 'requests',
  transfer: 'uploads and downloads',
  'client-frame': 'messages from the browser',
  'server-frame': 'messages from the app',
  'client-pong': 'pongs',
};

export const SWITCHES = { file: 'File', replica: 'This replica', fleet: 'Fleet' };

export const counted = (count, what) => `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;

// A time of day in the browser's time zone. Explanations use epoch seconds, which mean the same everywhere.
export function clock(second) {
  const date = new Date(second * 1000);
  const time = date.toLocaleTimeString('en-GB');
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString('en-CA')} ${time}`;
}

export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

// The time left, as a countdown.
export function countdown(seconds) {
  const two = (number) => String(number).padStart(2, '0');
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (seconds < 60) return `${seconds} s`;
  if (hours < 1) return `${minutes}:${two(seconds % 60)}`;
  if (hours < 100) return `${hours}:${two(minutes % 60)}:${two(seconds % 60)}`;
  return `${Math.floor(hours / 24)} days`;
}

// A duration in a sentence.
export function span(seconds) {
  const units = [['day', 86_400], ['hour', 3600], ['minute', 60], ['second', 1]];
  const parts = [];
  for (const [name, size] of units) {
    const count = Math.floor(seconds / size);
    if (count && parts.length < 2) parts.push(counted(count, name));
    seconds %= size;
  }
  return parts.join(' ') || '0 seconds';
}

export function means({ mode, limit, lifetime, held_since: held, no_match: unmatched, changing, unissued }) {
  if (unmatched) return `No rule has matched in ${counted(unmatched.requests, 'request')}, so no session will end. Rules: ${unmatched.rules.join(', ')}. Seen: ${unmatched.names.join(', ') || 'nothing that looks like a token'}.`;
  if (unissued) return `Unknown tokens are admitted (${unissued.join(', ')}): the app was not seen to issue most of the latest ones.`;
  if (changing) return `The app changes its token while users stay logged in: ${changing.join(', ')}. An idle user is not logged out.`;
  if (held && mode === 'enforce') return `The store has been unavailable since ${clock(held)}. No session expires until it is back.`;
  const old = lifetime ? ` or older than ${span(lifetime)}` : '';
  const rule = `Sessions idle for more than ${span(limit)}${old}`;
  if (mode === 'enforce') return `${rule} are cut.`;
  if (mode === 'observe') return `${rule} would be cut. This is only recorded; no session is cut.`;
  return 'Everything passes through. Tokens are ignored, and idle time does not count.';
}

export function keptBy({ source, activity, last_activity: last }) {
  if (source === 'accepted') return `No activity since the app accepted its token at ${clock(last)}`;
  if (source === 'operator') return `Extended by an operator at ${clock(last)}`;
  const others = Object.entries(activity).filter(([other]) => other !== source);
  const since = Math.max(...others.map(([, at]) => at));
  const name = SOURCES[source] ?? source;
  // Seconds are rounded down, so a difference of one second means nothing.
  if (others.length && last - since <= 1) return `Kept alive by ${name}, last at ${clock(last)}`;
  return `Kept alive only by ${name}${others.length ? ` since ${clock(since)}` : ''}, last at ${clock(last)}`;
}

export function connections({ connections: all }) {
  const open = Object.entries(all).filter(([, count]) => count > 0);
  if (!open.length) return 'No open connections';
  return open.map(([replica, count]) => `${counted(count, 'connection')} on ${replica}`).join(', ');
}

export function left(session, mode) {
  if (mode === 'off') return { left: '–', note: 'not counted', tone: 'none' };
  if (session.state === 'overdue') return { left: `+${countdown(session.now - session.end.at)}`, note: 'past the limit', tone: 'over' };
  const { seconds_left: seconds, left_until: until, limit } = session;
  const tone = seconds <= Math.min(limit / 4, 300) ? 'soon' : 'calm';
  return { left: countdown(seconds), note: until === 'lifetime' ? 'of its lifetime' : 'left', tone };
}

export function storeState({ kind, takes, since, unsynced }) {
  if (takes === undefined) return 'not used yet';
  const kept = { memory: 'lost on restart', file: 'on disk', redis: 'up' }[kind] ?? kind;
  if (takes) return `${kept}, since ${clock(since)}`;
  const pending = unsynced ? `; ${counted(unsynced, 'session')} unsynced` : '';
  return `unavailable since ${clock(since)}${pending}`;
}

export function setting(name, { mode, until }) {
  if (until) return `back to ${until.then} in ${span(until.seconds_left)}`;
  if (name === 'file') return 'idle.mode in the configuration file';
  return name === 'replica' ? 'until it restarts' : 'every replica that shares the store';
}

const least = (modes) => STRICTNESS.find((mode) => modes.includes(mode));

const others = (snapshot, name) => Object.entries(snapshot.switches).filter(([other]) => other !== name);

// How many sessions a switch to `enforce` would cut at once, as known here. Other replicas may have other switches; the
// server includes their sessions when it refuses an unconfirmed change.
export function wouldBeCut(snapshot, name) {
  const isInForce = others(snapshot, name).every(([, { mode }]) => mode === 'enforce');
  if (snapshot.mode === 'off' || !isInForce) return 0;
  return name === 'fleet' ? snapshot.past_the_limit_anywhere : snapshot.past_the_limit;
}

// The consequences of setting a switch, in sentences.
export function consequences(snapshot, name, mode) {
  const { mode: before, limit, live, switches } = snapshot;
  const stricter = others(snapshot, name);
  const after = least([mode, ...stricter.map(([, setting]) => setting.mode)]);
  const says = [];
  if (after !== mode) {
    const [winner] = stricter.find(([, setting]) => setting.mode === after);
    says.push(`The mode of this replica stays ${after}, because the switch “${SWITCHES[winner]}” is less strict.`);
  }
  if (mode === 'enforce') {
    const count = wouldBeCut(snapshot, name);
    const more = name === 'fleet' && snapshot.are_more ? 'at least ' : '';
    const are = count === 1 ? 'is' : 'are';
    if (count) says.push(`${more}${counted(count, 'session')} ${are} past the limit and will be cut.`);
    else if (after === 'enforce') says.push('No session is past the limit, so none is cut at once.');
    if (name === 'fleet' && snapshot.silent) says.push(`${counted(snapshot.silent, 'replica')} did not respond and may have more.`);
    if (before === 'off' && after !== 'off') says.push('Idle time starts again for all sessions.');
    if (after === 'enforce') says.push(`From then on, sessions idle for more than ${span(limit)} are cut.`);
  } else if (after !== mode) {
    says.push('Nothing changes for now.');
  } else if (mode === 'observe') {
    says.push(`No session is cut any more; what would be cut is only recorded. ${counted(live, 'live session')} stay${live === 1 ? 's' : ''} tracked.`);
    says.push('Tokens of cut sessions are admitted again. Tokens ended by a logout or an operator are not.');
  } else {
    says.push(`Everything passes through: no session is cut, and dead tokens are admitted. The idle time of ${counted(live, 'live session')} does not count.`);
    says.push('Afterwards, idle time starts again for all sessions, on all replicas.');
  }
  if (mode === 'observe' && after === mode) says.push('Afterwards, sessions past the limit are cut without confirmation if the mode reverts to enforce by itself.');
  if (name === 'fleet') says.push('This applies to all replicas that share the store.');
  if (switches[name].mode === mode && !switches[name].until) says.unshift(`It is already set to ${mode}.`);
  return says.map((text) => text.charAt(0).toUpperCase() + text.slice(1));
}

export function endings(session) {
  const count = Object.values(session.connections).reduce((sum, number) => sum + number, 0);
  const some = count === 1 ? 'Its connection is closed' : `Its ${counted(count, 'connection')} are closed`;
  const closed = count ? some : 'It has no open connection';
  return [
    `${closed}, and its token is refused from then on, on all replicas.`,
    `${keptBy(session)}.`,
    'This cannot be undone: the user must log in again.',
  ];
}

export const short = (id) => id.slice(0, 8);
