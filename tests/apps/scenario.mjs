// What is tried with each app, in a real Chromium and through idlegate with the example that is shipped for it.
//
// An app's scenario.mjs exports a description:
//
//   start(context)         the program: { command, args, env, cwd }; context is { port, python, modules, folder, dependencies }
//   env(upstream)          optional: settings of the example that have to be written for the app that runs
//   login(page, url)       opens the app and logs in, until its page is there; with signIn, only opens it
//   signIn(page)           optional: logs in on the login page that the app leads to. After the end this is done on the page
//                          that is loaded again, and has to lead back to where the person was
//   work(page, round)      one input of a person, and the app's answer to it
//   settles                optional: for how many seconds after its answer the page sends what belongs to an input (0)
//   token(page)            the token of the session, as it travels, by carrier: { cookie: 'name=value' }
//   carriers(url, token)   how the dead token is tried: { name: () => answer of ask() or handshake() }
//   sees                   what the page shows after the cut without being asked, as `PATH: TEXT`
//   silent                 optional: true where that is nothing but what stood there before
//   reloaded               what it shows where it is loaded again: a login, or why there is none
//   nothing                optional: which answers after the cut give the page nothing, as `METHOD PATH: STATUS BODY` or
//                          `PATH: received MESSAGE`: those of the login page, say
//   oneTab                 optional: a second tab does not work yet, and why
//   after                  optional: { name, action(page, url) }: what else is tried with the old page after the cut
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { launch } from '../browser/browser.mjs';
import { Report, eventually, indent, sleep } from '../browser/report.mjs';
import { App, Idlegate } from './programs.mjs';
import { freePort } from './wire.mjs';

const TIMEOUT = 15; // seconds
const LATE = 2; // within that much after the timeout a session ends
const PACE = 4; // seconds between two inputs
const QUIET = 10; // seconds in which an ended page must not come back to life

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const seconds = (milliseconds) => (milliseconds / 1000).toFixed(1);

// What the page asks for, and what it gets.
class Answers {
  log = [];

  constructor(context) {
    this.begin = Date.now();
    context.on('response', (response) => {
      const url = new URL(response.url());
      if (!url.protocol.startsWith('http')) return;
      const entry = this.#note('http', `${response.request().method()} ${url.pathname}`, response.status());
      // A page that is left has no bodies any more.
      const text = /text|json|javascript/.test(response.headers()['content-type'] ?? '') ? response.text() : '';
      Promise.resolve(text).then((body) => (entry.body = body.slice(0, 200)), () => {});
    });
    const follow = (page) =>
      page.on('websocket', (socket) => {
        const path = new URL(socket.url()).pathname;
        this.#note('ws', path, 'opened');
        socket.on('framereceived', ({ payload }) => this.#note('ws', path, `received ${String(payload).slice(0, 120)}`));
        socket.on('framesent', ({ payload }) => this.#note('ws', path, `sent ${String(payload).slice(0, 120)}`));
        socket.on('socketerror', (error) => this.#note('ws', path, error));
        socket.on('close', () => this.#note('ws', path, 'closed'));
      });
    context.pages().forEach(follow);
    context.on('page', follow);
  }

  #note(kind, what, outcome) {
    const entry = { at: Date.now(), kind, what, outcome, body: '' };
    this.log.push(entry);
    return entry;
  }

  lines(from = 0) {
    return this.log
      .slice(from)
      .map(({ at, kind, what, outcome, body }) => `${seconds(at - this.begin)} ${kind} ${what}: ${outcome} ${body.slice(0, 100)}`)
      .join('\n');
  }

  // What the app has given to the page since `from`, but for what `nothing` says is nothing: the login page, or a refusal in
  // the app's own words.
  given(from, nothing) {
    return this.log
      .slice(from)
      .filter(({ kind, outcome }) => (kind === 'http' ? outcome >= 200 && outcome < 300 : String(outcome).startsWith('received')))
      .map(({ what, outcome, body }) => `${what}: ${outcome} ${body}`)
      .filter((line) => !nothing?.test(line));
  }
}

// Runs it, and says what it says through `say`. True if all passed.
export async function tryApp(name, scenario, binary, say) {
  const folder = await mkdtemp(join(tmpdir(), `idlegate-app-${name}-`));
  const dependencies = join(ROOT, 'tests/.deps/apps', name);
  const context = {
    port: await freePort(),
    folder,
    dependencies,
    source: join(ROOT, 'tests/apps', name),
    python: join(dependencies, 'venv/bin/python'),
    bin: join(dependencies, 'venv/bin'),
    modules: join(dependencies, 'node_modules'),
  };
  const app = new App();
  const proxy = new Idlegate();
  const report = new Report(say);
  const timeout = scenario.timeout ?? TIMEOUT;
  let browser;
  let answers;
  try {
    return await run();
  } finally {
    await browser?.close().catch(() => {});
    await proxy.stop();
    await app.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }

  async function events() {
    const text = await readFile(join(folder, 'audit.jsonl'), 'utf8').catch(() => '');
    // The last line may be under way.
    return text.split('\n').slice(0, -1).map((line) => JSON.parse(line));
  }

  async function picture(suffix = '') {
    await mkdir(join(ROOT, 'target/apps'), { recursive: true });
    await browser.pages()[0].screenshot({ path: join(ROOT, 'target/apps', `${name}${suffix}.png`) });
  }

  async function run() {
    let page;
    let token;
    let ids; // the live sessions when work ends
    let worked; // when the last input began, and when its answer was there
    let cutAt; // where the page's log stood at the end
    let left; // the path of the page that the person leaves

    report.step('the app and idlegate start', async () => {
      const upstream = `http://127.0.0.1:${context.port}`;
      await app.start({ cwd: folder, ...(await scenario.start(context)) }, upstream + (scenario.ready ?? '/'));
      await proxy.start(binary, {
        config: join(ROOT, 'examples', `${scenario.example ?? name}.toml`),
        upstream,
        timeout,
        audit: join(folder, 'audit.jsonl'),
        env: await scenario.env?.(upstream),
      });
      browser = await launch(join(folder, 'profile'));
      browser.setDefaultTimeout(30_000);
      [page] = browser.pages();
      answers = new Answers(browser);
    });

    report.step(`a person logs in${scenario.oneTab ? '' : ', and opens a second tab'}`, async () => {
      await scenario.login(page, proxy.url);
      await scenario.signIn?.(page);
      // It is left alone while the person works in the first one.
      if (!scenario.oneTab) {
        const tab = await browser.newPage();
        await tab.goto(page.url());
        await page.bringToFront();
      }
      token = await scenario.token(page, context);
      return `token in ${Object.keys(token).join(', ')}`;
    });

    report.step(`works on past the timeout of ${timeout} s, and is never cut`, async () => {
      const begin = Date.now();
      let round = 0;
      do {
        if (round) await sleep(PACE);
        round += 1;
        const input = Date.now();
        await scenario.work(page, round, proxy.url);
        worked = { begin: input, end: Date.now() };
      } while (worked.begin - begin < timeout * 1500);
      const cuts = (await events()).filter(({ event }) => event === 'cut');
      // Not those of before the login, which the page has left.
      assert.deepEqual(cuts.filter(({ connections }) => connections > 0), [], 'a session in use was cut');
      const sessions = await proxy.sessions();
      ids = sessions.filter(({ idle }) => idle <= PACE).map(({ id, session }) => id ?? session);
      left = new URL(page.url()).pathname;
      assert.ok(ids.length > 0, `none of the live sessions was kept by it: ${JSON.stringify(sessions)}`);
      return `${round} inputs in ${seconds(worked.end - begin)} s`;
    });

    report.step(`left alone, the session ends after ${timeout} s, and not after ${timeout + LATE} s`, async () => {
      const deadline = worked.end + (timeout + LATE + 20) * 1000;
      for (;;) {
        const cuts = (await events()).filter(({ event, session }) => event === 'cut' && ids.includes(session));
        if (cuts.length === ids.length) {
          cutAt = answers.log.length;
          const times = cuts.map(({ time }) => Date.parse(time));
          const [first, last] = [Math.min(...times) - worked.begin, Math.max(...times) - worked.end - (scenario.settles ?? 0) * 1000];
          await sleep(2.5);
          await picture();
          assert.ok(first >= timeout * 1000, `too early: ${seconds(first)} s after the last input: ${cuts[0].says}`);
          assert.ok(last <= (timeout + LATE) * 1000, `too late: ${seconds(last)} s after the last input: ${cuts.at(-1).says}`);
          return `after ${seconds(last)} s: ${cuts.at(-1).says}`;
        }
        if (Date.now() > deadline) {
          const left = await Promise.all(ids.map((id) => proxy.session(id)));
          const alive = left.filter(({ state }) => state !== 'ended');
          throw new Error(`still alive ${seconds(Date.now() - worked.end)} s after the last input: ${JSON.stringify(alive, null, 1)}`);
        }
        await sleep(0.2);
      }
    });

    report.step(scenario.silent ? 'by itself the page shows nothing of it' : 'the person sees that it has ended', async () => {
      const seen = await eventually('the page shows it', 30, () => shown(page), (text) => scenario.sees.test(text));
      await picture();
      return around(seen, scenario.sees);
    }, { goOn: true });

    report.step(`the page does not come back to life in ${QUIET} s`, async () => {
      await sleep(QUIET);
      const others = (await proxy.sessions()).length;
      assert.deepEqual(answers.given(cutAt, scenario.nothing), [], 'the app has given it more');
      return `${answers.log.length - cutAt} requests and frames, ${others} new sessions`;
    }, { goOn: true });

    if (scenario.after) {
      report.step(scenario.after.name, () => scenario.after.action(page, proxy.url), { goOn: true });
    }

    report.step('loaded again, it asks for a login', async () => {
      const answer = await page.reload();
      const seen = await eventually('the page shows it', 10, () => shown(page), (text) => scenario.reloaded.test(text));
      await picture('-reloaded');
      return `${answer?.status() ?? ''} ${around(seen, scenario.reloaded)}`.trim();
    }, { goOn: true });

    report.step('the dead token is refused wherever it is tried', async () => {
      const tried = [];
      for (const [carrier, attempt] of Object.entries(scenario.carriers(proxy.url, token))) {
        const { status, location, close, messages } = await attempt();
        const refused = status === 401 || (status === 302 && location) || (status === 101 && close === 1008);
        tried.push(`${carrier} ${status}${location ? ` to ${location}` : ''}${close ? ` and Close ${close}` : ''}`);
        assert.ok(refused, `${tried.at(-1)}: ${JSON.stringify(messages ?? [])}`);
      }
      const refusals = (await events()).filter(({ event }) => event === 'refuse').length;
      assert.ok(refusals >= tried.length, `idlegate recorded ${refusals} refusals`);
      return tried.join(', ');
    }, { goOn: true });

    report.step('a new login works at once', async () => {
      if (scenario.signIn) await scenario.signIn(page);
      else await scenario.login(page, proxy.url);
      await scenario.work(page, 1, proxy.url);
      const fresh = await scenario.token(page, context);
      assert.notDeepEqual(fresh, token, 'it has a new token');
      if (!scenario.signIn) return '';
      const path = new URL(page.url()).pathname;
      assert.equal(path, left, 'the page is that of before');
      return `on ${path}, without another step`;
    }, { goOn: true });

    return report.run(async () => {
      if (!answers) return;
      await picture('-failed').catch(() => {});
      say(`  the page since the cut:\n${indent(answers.lines(Math.max(0, (cutAt ?? answers.log.length) - 20)).slice(0, 6000))}`);
      say(`  the page shows:\n${indent(await shown(page).catch(String))}`);
      if (process.env.VERBOSE) {
        say(`  idlegate said:\n${indent(proxy.output.slice(-4000))}`);
        say(`  its records:\n${indent((await events()).map((event) => JSON.stringify(event)).join('\n').slice(-6000))}`);
        say(`  the app said:\n${indent(app.output.slice(-4000))}`);
      }
    });
  }
}

// The path of the page, and what stands on it, also in its components.
export async function shown(page) {
  const text = await page.evaluate(() => {
    // Not checkVisibility: an element with `display: contents` has none of its own.
    const visible = (element) => getComputedStyle(element).display !== 'none';
    const read = (node) => {
      if (node.nodeType === Node.TEXT_NODE) return node.textContent;
      if (node.nodeType === Node.ELEMENT_NODE && (/^(SCRIPT|STYLE|NOSCRIPT|TEMPLATE)$/.test(node.tagName) || !visible(node))) return '';
      return [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].map(read).join(' ');
    };
    return read(document.body);
  });
  return `${new URL(page.url()).pathname}: ${text.replace(/\s+/g, ' ').trim()}`;
}

// The path, and the text around what was looked for.
function around(text, pattern) {
  const { index, 0: found } = text.match(pattern);
  const [begin, end] = [Math.max(0, index - 60), index + Math.min(found.length, 60) + 60];
  return `${begin ? `${text.split(': ')[0]}: …` : ''}${text.slice(begin, end)}${end < text.length ? '…' : ''}`;
}

// A cookie as it travels.
export async function cookie(page, name) {
  const all = await page.context().cookies();
  const found = all.find((one) => (typeof name === 'string' ? one.name === name : name.test(one.name)));
  assert.ok(found, `no cookie ${name} among ${all.map((one) => one.name)}`);
  return { cookie: `${found.name}=${found.value}` };
}
