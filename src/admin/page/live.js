// Reads GET /events with fetch, because EventSource cannot send the token.

const SILENT = 5_000; // without data for this long, the connection counts as lost
const PAUSE = 2_000; // before the next attempt after an error
const AT_ONCE = 100; // before the next request after a normal end: the server ends each response after a while

export class Refused extends Error {}

// Follows the events forever. Calls `show(snapshot)` about once a second, and `lost()` when the connection is lost.
// Returns if another page has replaced this one. Throws `Refused` if the token is missing or wrong.
export async function follow(token, show, lost) {
  for (;;) {
    let pause = PAUSE;
    try {
      for await (const { event, data } of events(token)) {
        if (event === 'replaced') return;
        show(JSON.parse(data));
        pause = AT_ONCE;
      }
    } catch (error) {
      if (error instanceof Refused) throw error;
      pause = PAUSE;
    }
    if (pause === PAUSE) lost();
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function* events(token) {
  const abort = new AbortController();
  let patience;
  const wait = () => {
    clearTimeout(patience);
    patience = setTimeout(() => abort.abort(), SILENT);
  };
  try {
    wait();
    const response = await fetch('/events', { headers: bearer(token), cache: 'no-store', signal: abort.signal });
    if (response.status === 401) throw new Refused();
    if (!response.ok) throw new Error(response.statusText);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      wait();
      const blocks = (text + value).split('\n\n');
      text = blocks.pop();
      yield* blocks.map(parse);
    }
  } finally {
    clearTimeout(patience);
    abort.abort();
  }
}

function parse(block) {
  const fields = block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]);
  return Object.fromEntries(fields);
}

// Sends a change. Throws the server's error: `error`, `fix`, and `would_cut` if the change needs confirmation.
export async function act(token, method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { ...bearer(token), 'Content-Type': 'application/json' },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
  } catch {
    throw { error: 'no response', fix: 'check that idlegate runs' };
  }
  const reply = await response.json().catch(() => ({ error: `unexpected response ${response.status}`, fix: 'reload the page' }));
  if (!response.ok) throw reply;
  return reply;
}

const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {});
