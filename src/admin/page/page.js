// The operators' page: shows each snapshot and carries out the operator's changes. No number changes without a new snapshot.
import { Refused, act, follow } from './live.js';
import { Dialog } from './dialog.js';
import { arrange, byId, copies, define, piece, say } from './parts.js';
import * as words from './words.js';

let token = null;
let snapshot = null;
const dialog = new Dialog(() => snapshot, (...what) => act(token, ...what));
const switches = new Map();
const sessions = new Map();

// --- live or not -----------------------------------------------------------------------------------------------------

async function watch() {
  byId('banner-button').hidden = true;
  try {
    await follow(token, show, () => notLive('reconnecting'));
    notLive('replaced by another open page (up to eight are served at once)');
    byId('banner-button').hidden = false;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    askForToken();
  }
}

function notLive(why) {
  document.body.dataset.live = 'no';
  document.title = 'not live · idlegate';
  say(byId('live'), 'Not live');
  const from = snapshot ? `This data is from ${words.clock(snapshot.now)} and no longer current` : 'There is no data yet';
  say(byId('banner-text'), `Not live: ${why}. ${from}.`);
  byId('banner').hidden = false;
  announce(`Not live. ${from}.`);
}

function announce(text) {
  say(byId('said'), text);
}

// --- the token -------------------------------------------------------------------------------------------------------

function askForToken() {
  byId('room').hidden = true;
  byId('door').hidden = false;
  byId('banner').hidden = true;
  say(byId('live'), 'Locked');
  say(byId('token-wrong'), token ? 'Wrong token.' : '');
  token = null;
  byId('token').value = '';
  byId('token').focus();
}

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token = byId('token').value.trim();
  byId('token').value = '';
  watch();
});
byId('banner-button').addEventListener('click', watch);

// --- a snapshot ------------------------------------------------------------------------------------------------------

function show(next) {
  const before = snapshot;
  snapshot = next;
  const wasLocked = !byId('door').hidden;
  byId('door').hidden = true;
  byId('banner').hidden = true;
  byId('room').hidden = false;
  document.body.dataset.live = 'yes';
  document.body.dataset.mode = next.mode;
  document.title = `${next.mode} · ${words.counted(next.live, 'session')} · idlegate`;
  say(byId('live'), 'Live');
  say(byId('replica'), `${next.replica} · ${next.version}`);
  showMode(next);
  showSwitches(next);
  showSessions(next, before);
  showRecent(next);
  say(byId('foot'), `Times of day are in ${words.zone()}. Epoch seconds are from the store's clock.`);
  dialog.refresh();
  if (wasLocked) byId('sessions-title').focus();
  announceChanges(before, next);
}

function announceChanges(before, now) {
  if (!before) return announce(`Live. The mode is ${now.mode}.`);
  if (before.mode !== now.mode) announce(`The mode is ${now.mode} now. ${words.means(now)}`);
  else if (before.store.takes !== now.store.takes) announce(`Store: ${words.storeState(now.store)}`);
  else if (before.past_the_limit < now.past_the_limit) {
    announce(`${words.counted(now.past_the_limit, 'session')} past the limit.`);
  } else if (before.live > now.live) announce(`${words.counted(now.live, 'live session')} left.`);
}

function showMode(next) {
  const isHeld = next.mode === 'enforce' && next.held_since;
  say(byId('mode'), isHeld ? 'no session expires' : next.mode);
  byId('mode').closest('.mode').dataset.held = Boolean(isHeld);
  say(byId('mode-means'), words.means(next));
  say(byId('live-count'), next.live.toLocaleString('en'));
  say(byId('past-count'), next.past_the_limit.toLocaleString('en'));
  say(byId('past-note'), next.past_the_limit ? 'and not cut' : '');
  byId('past-count').dataset.some = next.past_the_limit > 0;
  say(byId('store-kind'), next.store.kind);
  say(byId('store-state'), words.storeState(next.store));
  byId('store').dataset.takes = next.store.takes !== false;
}

function showSwitches(next) {
  const isUnanimous = Object.values(next.switches).every(({ mode }) => mode === next.mode);
  for (const [name, setting] of Object.entries(next.switches)) {
    if (!switches.has(name)) switches.set(name, newSwitch(name));
    const { element, note, decides, choice, fixed } = switches.get(name);
    element.dataset.mode = setting.mode;
    decides.hidden = isUnanimous || setting.mode !== next.mode;
    say(note, words.setting(name, setting));
    choice.hidden = name === 'file';
    fixed.hidden = !choice.hidden;
    say(fixed, setting.mode);
    for (const button of choice.children) button.setAttribute('aria-pressed', button.value === setting.mode);
  }
  const shown = ['replica', 'fleet', 'file'].filter((name) => next.switches[name]);
  arrange(byId('switches'), shown.map((name) => switches.get(name).element));
  say(byId('no-fleet'), next.switches.fleet ? '' : `No fleet switch: a ${next.store.kind} store is not shared with other replicas.`);
}

function newSwitch(name) {
  const made = piece('a-switch');
  say(made.name, words.SWITCHES[name]);
  made.element.dataset.switch = name;
  made.choice.setAttribute('aria-label', words.SWITCHES[name]);
  made.choice.addEventListener('click', async ({ target }) => {
    if (!target.value) return;
    notice(await dialog.mode(name, target.value));
  });
  return made;
}

// --- sessions --------------------------------------------------------------------------------------------------------

function showSessions(next, before) {
  const ids = next.sessions.map(({ session }) => session);
  for (const session of next.sessions) {
    if (!sessions.has(session.session)) sessions.set(session.session, newSession(session.session));
    fill(sessions.get(session.session), session, next);
  }
  for (const id of [...sessions.keys()].filter((id) => !ids.includes(id))) remove(id, before);
  arrange(byId('sessions'), ids.map((id) => sessions.get(id).element));
  byId('sessions-empty').hidden = ids.length > 0;
  const whose = next.store.kind === 'redis' ? 'of all replicas, ' : '';
  const shown = next.are_more ? `the ${ids.length} with the least time left; there are more` : 'least time left first';
  const silent = next.silent ? `${words.counted(next.silent, 'replica')} did not respond and may have more. ` : '';
  say(byId('sessions-note'), silent + (ids.length ? whose + shown : ''));
}

function fill(row, session, { mode }) {
  const { left, note, tone } = words.left(session, mode);
  row.element.dataset.tone = tone;
  say(row.left, left);
  say(row['left-note'], note);
  say(row.visit, session.client ? `${session.client} ${session.route}` : '');
  say(row.kept, words.keptBy(session));
  say(row.connections, words.connections(session));
  say(row.says, session.says);
  const part = tone === 'over' ? 1 : Math.min((session.seconds_left ?? 0) / (session.limit + 1), 1);
  row.bar.style.transform = `scaleX(${part})`;
  define(row.sources, [
    ['session', session.session],
    ['began', `${session.created} (${words.clock(session.created)})`],
    ...Object.entries(session.activity)
      .sort(([, one], [, other]) => other - one)
      .map(([source, at]) => [source, `${at} (${words.clock(at)})`]),
  ]);
}

function newSession(id) {
  const row = piece('a-session');
  row.element.dataset.session = id;
  say(row.id, words.short(id));
  copies(row.id, id);
  row.id.title = id;
  const name = `session ${words.short(id)}`;
  for (const button of row.element.querySelectorAll('button')) button.setAttribute('aria-label', `${button.textContent} ${name}`);
  row.element.addEventListener('click', async ({ target }) => {
    if (target.dataset.act === 'end') notice(await dialog.end(snapshot.sessions.find(({ session }) => session === id)));
    if (target.dataset.act === 'extend') notice(await dialog.extend(id));
  });
  return row;
}

// Removes a session that is no longer live. If it had the focus, the same button of the next session gets it.
function remove(id, before) {
  const { element } = sessions.get(id);
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const next = element.nextElementSibling ?? element.previousElementSibling;
  element.remove();
  sessions.delete(id);
  if (!focused || !before) return;
  (next?.querySelector(`[data-act="${focused.dataset.act ?? 'end'}"]`) ?? byId('sessions-title')).focus();
}

function notice(result) {
  if (!result) return;
  say(byId('notice'), result.text);
  byId('notice').dataset.wrong = Boolean(result.isWrong);
}

// --- recent decisions ------------------------------------------------------------------------------------------------

function showRecent({ recent }) {
  const list = byId('recent');
  byId('recent-empty').hidden = recent.length > 0;
  const text = JSON.stringify(recent);
  if (list.dataset.text === text) return;
  list.dataset.text = text;
  list.replaceChildren(...recent.map(decision));
}

function decision(record) {
  const { element, time, event, says, more } = piece('a-decision');
  element.dataset.event = record.event;
  element.dataset.session = record.session ?? '';
  time.dateTime = record.time;
  say(time, words.clock(Date.parse(record.time) / 1000));
  say(event, record.times > 1 ? `${record.event} ×${record.times}` : record.event);
  say(says, record.says);
  const closed = record.connections ? words.counted(record.connections, 'connection') : '';
  const who = [record.session && `session ${words.short(record.session)}`, record.client, record.route, closed];
  say(more, who.filter(Boolean).join(' · '));
  if (record.session) copies(more, record.session);
  return element;
}

watch();
