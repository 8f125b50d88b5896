// The words of the page. None of them comes from a client: text from clients is shown beside them.

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

// A time of the day where the browser is. Seconds of the epoch mean the same everywhere; they stand in the sentences.
export function clock(second) {
  const date = new Date(second * 1000);
  const time = date.toLocaleTimeString('en-GB');
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString('en-CA')} ${time}`;
}

export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

// What is left, as a clock shows it that counts down.
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

export function means({ mode, limit, lifetime, held_since: held, no_match: unmatched, changing }) {
  if (unmatched) return `No rule has matched in ${counted(unmatched.requests, 'request')}, and no session will end. Rules: ${unmatched.rules.join(', ')}. What came: ${unmatched.names.join(', ') || 'nothing that looks like a token'}.`;
  if (changing) return `The app changes its token while users stay logged in: ${changing.join(', ')}. An idle user is not logged out.`;
  if (held && mode === 'enforce') return `No session expires until the store answers: it is out since ${clock(held)}.`;
  const old = lifetime ? `, or older than ${span(lifetime)},` : '';
  const rule = `Sessions idle for more than ${span(limit)}${old}`;
  if (mode === 'enforce') return `${rule} is cut.`;
  if (mode === 'observe') return `${rule} would be cut. This is only recorded: no session is cut.`;
  return 'Everything passes through. No token is looked for, and no idle time counts.';
}

export function keptBy({ source, activity, last_activity: last }) {
  if (source === 'accepted') return `Nothing since the app accepted its token at ${clock(last)}`;
  if (source === 'operator') return `Extended by an operator at ${clock(last)}`;
  const others = Object.entries(activity).filter(([other]) => other !== source);
  const since = Math.max(...others.map(([, at]) => at));
  const name = SOURCES[source] ?? source;
  // Seconds are floored: one more or less means nothing.
  if (others.length && last - since <= 1) return `Kept alive by ${name}, last at ${clock(last)}`;
  return `Kept alive only by ${name}${others.length ? ` since ${clock(since)}` : ''}, last at ${clock(last)}`;
}

export function connections({ connections: all }) {
  const open = Object.entries(all).filter(([, count]) => count > 0);
  if (!open.length) return 'No open connection';
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
  if (takes === undefined) return 'no report yet';
  const kept = { memory: 'a restart forgets', file: 'on disk', redis: 'up' }[kind] ?? kind;
  if (takes) return `${kept}, since ${clock(since)}`;
  const pending = unsynced ? `; ${counted(unsynced, 'session')} pending` : '';
  return `out since ${clock(since)}${pending}`;
}

export function setting(name, { mode, until }) {
  if (until) return `back to ${until.then} in ${span(until.seconds_left)}`;
  if (name === 'file') return 'idle.mode in the configuration: edit it there';
  return name === 'replica' ? 'until it restarts' : 'every replica that shares the store';
}

const least = (modes) => STRICTNESS.find((mode) => modes.includes(mode));

const others = (snapshot, name) => Object.entries(snapshot.switches).filter(([other]) => other !== name);

// How many sessions a switch to `enforce` would cut at once, as known here. Other replicas may have other switches: the
// server answers with their number when it is asked to switch.
export function wouldBeCut(snapshot, name) {
  const isInForce = others(snapshot, name).every(([, { mode }]) => mode === 'enforce');
  if (snapshot.mode === 'off' || !isInForce) return 0;
  return name === 'fleet' ? snapshot.past_the_limit_anywhere : snapshot.past_the_limit;
}

// What comes of setting a switch, in sentences.
export function consequences(snapshot, name, mode) {
  const { mode: before, limit, live, switches } = snapshot;
  const stricter = others(snapshot, name);
  const after = least([mode, ...stricter.map(([, setting]) => setting.mode)]);
  const says = [];
  if (after !== mode) {
    const [winner] = stricter.find(([, setting]) => setting.mode === after);
    says.push(`The mode in force here stays ${after}: the switch “${SWITCHES[winner]}” is less strict.`);
  }
  if (mode === 'enforce') {
    const count = wouldBeCut(snapshot, name);
    const more = name === 'fleet' && snapshot.are_more ? 'at least ' : '';
    const are = count === 1 ? 'is' : 'are';
    if (count) says.push(`${more}${counted(count, 'session')} ${are} past the limit and will be cut.`);
    else if (after === 'enforce') says.push('No session is past the limit: none is cut at once.');
    if (name === 'fleet' && snapshot.silent) says.push(`${counted(snapshot.silent, 'replica')} did not answer, and may have more.`);
    if (before === 'off' && after !== 'off') says.push('Idle time starts again for every session.');
    if (after === 'enforce') says.push(`From then on, sessions idle for more than ${span(limit)} are cut.`);
  } else if (after !== mode) {
    says.push('Nothing changes at once.');
  } else if (mode === 'observe') {
    says.push(`No session is cut any more: cuts are only recorded. ${counted(live, 'live session')} stay${live === 1 ? 's' : ''} counted.`);
    says.push('Tokens of sessions that were cut pass again; those of logouts and of operators do not.');
  } else {
    says.push(`Everything passes through: no session is cut, and dead tokens pass. The idle time of ${counted(live, 'live session')} does not count.`);
    says.push('When it ends, idle time starts again for every session, on all replicas.');
  }
  if (mode === 'observe' && after === mode) says.push('When it ends, every session past the limit by then is cut without asking again.');
  if (name === 'fleet') says.push('This holds for all replicas that share the store.');
  if (switches[name].mode === mode && !switches[name].until) says.unshift(`It is set to ${mode} already.`);
  return says.map((text) => text.charAt(0).toUpperCase() + text.slice(1));
}

export function endings(session) {
  const count = Object.values(session.connections).reduce((sum, number) => sum + number, 0);
  const some = count === 1 ? 'Its connection is closed' : `Its ${counted(count, 'connection')} are closed`;
  const closed = count ? some : 'It has no open connection';
  return [
    `${closed}, and its token is refused from then on, on all replicas.`,
    `${keptBy(session)}.`,
    'This cannot be undone: its user must log in again.',
  ];
}

export const short = (id) => id.slice(0, 8);
