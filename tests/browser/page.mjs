// The page for operators, by keyboard: a real Chromium, a real proxy with a short limit, and real WebSockets through it.
//
//   node tests/browser/page.mjs target/release/idlegate
//
// SCREENSHOTS and CHROMIUM are those of browser.mjs.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { App } from './app.mjs';
import { launch, picture, run } from './browser.mjs';
import { Program } from './program.mjs';
import { Report, eventually, indent } from './report.mjs';

const LIMIT = 8; // seconds
const TOKEN = 'a token of operators';

const binary = process.argv[2];
if (!binary) {
  console.error('usage: node page.mjs <path of idlegate>');
  process.exit(2);
}

const folder = await mkdtemp(join(tmpdir(), 'idlegate-page-'));
const [app, proxy] = [new App(), new Program()];
let browser;

const config = (upstream) => `
listen = "127.0.0.1:0"
upstream = "${upstream}"
[idle]
timeout = "${LIMIT}s"
[activity]
profile = "person"
[[token]]
from = "query"
name = "token"
[admin]
listen = "127.0.0.1:0"
token_file = "${join(folder, 'token')}"
`;

// The page is longer than the window.
const wholePicture = (page, name) => picture(page, name, { fullPage: true });

// Opens a WebSocket of a session, in the app's own page. Its end stands in `window.ends`.
function connect(user, token) {
  return user.evaluate(
    (name) =>
      new Promise((resolve, reject) => {
        window.sockets ??= {};
        window.ends ??= {};
        window.heard ??= [];
        const socket = new WebSocket(`ws://${location.host}/ws?token=${name}`);
        window.sockets[name] = socket;
        socket.onopen = () => resolve();
        socket.onerror = () => reject(new Error(`the WebSocket of ${name} failed`));
        socket.onmessage = ({ data }) => window.heard.push(data);
        socket.onclose = ({ code, reason }) => (window.ends[name] = { code, reason });
      }),
    token,
  );
}

// What is sent through the tunnel comes back through it: it lives at both ends.
async function echo(user, token, text) {
  await user.evaluate(([name, said]) => window.sockets[name].send(said), [token, text]);
  await eventually(`${text} comes back`, 5, () => user.evaluate(() => window.heard), (heard) => heard.includes(text));
}

const end = (user, token) => user.evaluate((name) => window.ends[name] ?? null, token);

function seconds(row) {
  return row.locator('[data-is="left"]').textContent().then((text) => Number(text.match(/^(\d+) s$/)?.[1] ?? NaN));
}

// Goes on by Tab until the focus is there, as somebody does who has no mouse.
async function tabTo(page, locator) {
  for (let step = 0; step < 60; step += 1) {
    if (await locator.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab never comes to ${locator}`);
}

function steps(report, page, user, url) {
  const rows = page.locator('#sessions > li');
  const row = rows.first();
  const mode = (name) => page.locator(`[data-switch="replica"] button[value="${name}"]`);
  const dialog = page.locator('#dialog');
  const text = (id) => page.locator(id).textContent();
  const isMode = (name) => eventually(`the mode is ${name}`, 5, () => text('#mode'), (shown) => shown === name);
  const decisions = (event) => page.locator(`#recent > li[data-event="${event}"]`);
  const problems = [];

  report.step('the page loads without the token, and shows nothing without it', async () => {
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    page.on('pageerror', (error) => problems.push(String(error)));
    const answer = await page.goto(url);
    assert.match(answer.headers()['content-security-policy'], /default-src 'none'; script-src 'self'/);
    await page.locator('#token').waitFor({ state: 'visible' });
    await page.keyboard.type('not the token');
    await page.keyboard.press('Enter');
    await eventually('it is refused', 5, () => text('#token-wrong'), (said) => said === 'Wrong token.');
    assert.equal(await page.locator('#room').isVisible(), false);
    await page.keyboard.type(TOKEN);
    await page.keyboard.press('Enter');
    await page.locator('#room').waitFor({ state: 'visible' });
    assert.equal(await page.locator('body').getAttribute('data-live'), 'yes');
    assert.equal(await text('#mode'), 'enforce');
    assert.deepEqual(await page.evaluate(() => ({ ...localStorage, ...sessionStorage })), {}, 'the token is kept nowhere');
    // The browser itself notes the refusals.
    assert.deepEqual(problems.splice(0).filter((problem) => !problem.includes('401')), []);
  });

  report.step('the mode is switched to observe by keyboard, and the dialog gives the focus back', async () => {
    await tabTo(page, mode('observe'));
    await page.keyboard.press('Enter');
    await dialog.waitFor({ state: 'visible' });
    assert.match(await text('#dialog-text'), /No session is cut any more; what would be cut is only recorded/);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    assert.equal(await mode('observe').evaluate((button) => button === document.activeElement), true, 'the focus is back');
    assert.equal(await text('#mode'), 'enforce', 'nothing was switched');
    await page.keyboard.press('Enter');
    await tabTo(page, page.locator('#dialog-do'));
    await page.keyboard.press('Enter');
    await isMode('observe');
    await eventually('it is announced', 5, () => text('#said'), (said) => said.includes('observe'));
    assert.equal(await mode('observe').getAttribute('aria-pressed'), 'true');
  });

  report.step('a session counts down, second by second, and the focus stays on its button', async () => {
    await connect(user, 'ada');
    const full = (left) => left >= LIMIT - 3 && left <= LIMIT + 1;
    const first = await eventually('it has nearly the limit left', 5, () => seconds(row), full);
    assert.match(await row.textContent(), /127\.0\.0\.1 \/ws.*1 connection on /s);
    await row.locator('[data-act="end"]').focus();
    const seen = new Set([first]);
    await eventually('it falls', LIMIT, async () => seen.add(await seconds(row)), () => [...seen].at(-1) <= 2);
    const fallen = [...seen];
    assert.ok(fallen.length >= 4 && fallen.every((left, index) => index === 0 || left < fallen[index - 1]), `${fallen}`);
    const bar = await row.locator('[data-is="bar"]').evaluate((element) => element.style.transform);
    assert.ok(Number(bar.match(/scaleX\((.*)\)/)[1]) < 0.4, bar);
    assert.equal(await page.evaluate(() => document.activeElement.dataset.act), 'end', 'the focus stays');
    await wholePicture(page, 'page-1-counting');
    return fallen.join(', ');
  });

  report.step('past the limit it would be cut, with the arithmetic, and its tunnel lives', async () => {
    await eventually('a would-cut is shown', 8, () => decisions('would-cut').count(), (count) => count === 1);
    const said = await decisions('would-cut').locator('[data-is="says"]').textContent();
    const [, idle, last] = said.match(/^would be cut: idle (\d+) s > 8 s, last activity (\d+) by [a-z-]+$/) ?? [];
    assert.ok(idle > LIMIT && idle <= LIMIT + 2 && Math.abs(last - Date.now() / 1000) < 60, said);
    await eventually('it is past the limit', 5, () => row.textContent(), (shown) => shown.includes('past the limit'));
    assert.equal(await text('#past-count'), '1');
    assert.equal(app.open.size, 1, 'the app still has its tunnel');
    assert.equal(await end(user, 'ada'), null);
    return said;
  });

  report.step('who switches back is told who would be cut, and may call it off', async () => {
    await tabTo(page, mode('enforce'));
    await page.keyboard.press('Enter');
    assert.match(await text('#dialog-text'), /^1 session is past the limit and will be cut\./);
    await wholePicture(page, 'page-2-dialog');
    await page.keyboard.press('Escape');
    assert.equal(await text('#mode'), 'observe');
    await echo(user, 'ada', 'still there');
    await eventually('it counts anew', 5, () => seconds(row), (left) => left > 4);
    assert.match(await row.textContent(), /Kept alive( only)? by messages from the (browser|app)/);
  });

  report.step('an operator extends a session and ends one, which closes its tunnel', async () => {
    await connect(user, 'bob');
    await eventually('both are shown', 5, () => rows.count(), (count) => count === 2);
    const bob = rows.filter({ hasText: 'No activity since the app accepted its token' });
    await bob.locator('[data-act="extend"]').press('Enter');
    const extended = page.locator('#sessions > li', { hasText: 'Extended by an operator' });
    await eventually('it is extended', 5, () => extended.count(), (count) => count === 1);
    await extended.locator('[data-act="end"]').press('Enter');
    assert.match(await text('#dialog-text'), /Its connection is closed, and its token is refused/);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'dialog-cancel', 'nothing happens by accident');
    await tabTo(page, page.locator('#dialog-do'));
    await page.keyboard.press('Enter');
    const closed = await eventually('its tunnel is closed', 5, () => end(user, 'bob'), (ended) => ended !== null);
    assert.equal(closed.code, 1008);
    await eventually('it is gone', 5, () => rows.count(), (count) => count === 1);
    assert.equal(await page.evaluate(() => document.activeElement.dataset.act), 'end', 'the focus is on the next one');
    assert.match(await decisions('end').textContent(), /an operator ended it, idle \d+ s, last activity \d+ by operator/);
    assert.equal(await end(user, 'ada'), null, 'the other one lives');
    await assert.rejects(connect(user, 'bob'), 'dead stays dead');
  });

  report.step('a yes in the dialog cuts who is past the limit', async () => {
    await eventually('one is past the limit', 15, () => text('#past-count'), (count) => count === '1');
    await mode('enforce').press('Enter');
    await page.locator('#dialog-do').press('Enter');
    await isMode('enforce');
    await eventually('its tunnel is closed', 5, () => end(user, 'ada'), (ended) => ended?.code === 1008);
    await eventually('it is a cut', 5, () => decisions('cut').count(), (count) => count === 1);
    await page.locator('#sessions-empty').waitFor({ state: 'visible' });
    await page.setViewportSize({ width: 390, height: 844 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390, 'it fits a telephone');
    await page.setViewportSize({ width: 1280, height: 800 });
    await wholePicture(page, 'page-3-cut');
    assert.deepEqual(problems, [], 'nothing was refused to the page, by its policy or else');
  });

  report.step('what is old does not look live', async () => {
    await proxy.stop();
    await eventually('it says so', 15, () => text('#banner'), (said) => /Not live.*no longer current/.test(said));
    assert.equal(await page.locator('body').getAttribute('data-live'), 'no');
    await wholePicture(page, 'page-4-not-live');
  });
}

async function main() {
  const upstream = await app.start();
  const file = join(folder, 'proxy.toml');
  await writeFile(join(folder, 'token'), TOKEN);
  await writeFile(file, config(upstream));
  const ready = /admin API and page at (http:\S+)[^]*listening on (http:\S+)/;
  const [, admin, address] = await proxy.start(binary, ['run', '--config', file], ready, { NO_COLOR: '1' });
  browser = await launch(join(folder, 'profile'), 2);
  const [page, user] = browser.pages();
  await user.goto(address);
  await page.bringToFront();
  const report = new Report();
  steps(report, page, user, `${admin}/`);
  return report.run(async () => {
    console.log(`  idlegate said:\n${indent(proxy.output)}`);
    console.log(`  the page:\n${indent(await page.locator('body').innerText().catch(String))}`);
    await wholePicture(page, 'failed').catch(() => {});
  });
}

async function cleanUp() {
  await browser?.close().catch(() => {});
  await proxy.stop();
  app.stop();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

await run(main, cleanUp);
