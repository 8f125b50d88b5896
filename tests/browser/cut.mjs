// The cut as a user meets it: a real Chromium, the demo, and nobody at the keyboard.
//
//   node tests/browser/cut.mjs target/release/idlegate
//
// SCREENSHOTS and CHROMIUM are those of browser.mjs.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { launch, picture, run } from './browser.mjs';
import { Demo } from './program.mjs';
import { Report, eventually, indent, sleep } from './report.mjs';
import { Traffic } from './traffic.mjs';

const LIMIT = 30; // seconds, the demo's
const LATEST = 33; // decided within 2 s of the limit, and 1 s for the way to the screen
const EARLY = 0.25; // a frame reaches the browser a little after the proxy has counted it
const QUIET = 12; // longer than the longest wait of the front end before it reconnects
const WAYS = 3; // a JSON body, a header, the first message of a WebSocket
const REFUSED = /\b(401|4002)\b/;

const binary = process.argv[2];
if (!binary) {
  console.error('usage: node cut.mjs <path of idlegate>');
  process.exit(2);
}

const profile = await mkdtemp(join(tmpdir(), 'idlegate-browser-'));
const demo = new Demo();
let browser;

async function secondsLeft(page) {
  // Not innerText, here and below: an element of an SVG has none.
  const text = await page.locator('#seconds-left').textContent();
  return Number(text.match(/\d+(\.\d+)?/)?.[0] ?? NaN);
}

async function connection(page) {
  return page.locator('#connection').textContent();
}

// What was tried with the old token through the proxy. The row `app` is another question: would the app still take it?
async function retryRows(page) {
  return page.locator('#retry-results').evaluate((results) =>
    [...results.querySelectorAll('tr, li')]
      .filter((row) => row.dataset.way !== 'app' && !row.closest('thead'))
      .map((row) => row.innerText.replace(/\s+/g, ' ').trim()),
  );
}

function steps(report, page, traffic, url) {
  let username;
  let cutAt; // position in the traffic log

  report.step('the page asks who we are', async () => {
    await page.goto(url);
    await page.locator('#login-button').waitFor({ state: 'visible' });
    username = await page.locator('#username').inputValue();
    assert.notEqual(username, '', '#username is filled in');
    await picture(page, '1-login');
  });

  report.step('a click logs in', async () => {
    await page.locator('#login-button').click();
    const shown = (text) => text.toLowerCase().includes(username.toLowerCase());
    await eventually(`#who shows ${username}`, 10, () => page.locator('#who').textContent(), shown);
    assert.equal(await page.locator('#expired-dialog').isVisible(), false, 'no dialog yet');
    await eventually('the WebSocket is logged in', 10, () => traffic.loggedIn.size, (sockets) => sockets === 1);
    assert.equal(await connection(page), 'WebSocket open');
  });

  report.step('the seconds count down', async () => {
    const full = (left) => left > LIMIT - 5 && left <= LIMIT + 1;
    const first = await eventually('#seconds-left is nearly the limit', 10, () => secondsLeft(page), full);
    await eventually(`#seconds-left falls below ${first - 3}`, 10, () => secondsLeft(page), (left) => left <= first - 3);
  });

  report.step('work on the WebSocket fills them up again', async () => {
    const before = await secondsLeft(page);
    await page.locator('#run-button').click();
    const after = await eventually('#seconds-left jumps up', 5, () => secondsLeft(page), (left) => left >= before + 2);
    await picture(page, '2-live');
    return `from ${before} to ${after}, source ${await page.locator('#last-source').textContent()}`;
  });

  report.step(`without a hand on it, the dialog comes after ${LIMIT} s, and not after ${LATEST}`, async () => {
    await page.locator('#expired-dialog').waitFor({ state: 'visible', timeout: (LATEST + 60) * 1000 });
    const idle = (Date.now() - traffic.lastActivity) / 1000;
    cutAt = traffic.log.length;
    await picture(page, '3-cut');
    assert.ok(idle >= LIMIT - EARLY, `too early: ${idle} s after the last activity`);
    assert.ok(idle <= LATEST, `too late: ${idle} s after the last activity`);
    assert.match(await page.locator('#expired-dialog').textContent(), /inactiv/i, 'the dialog says why');
    assert.doesNotMatch(await connection(page), /WebSocket open/, 'nor does the page behind it say anything else');
    const told = new RegExp(`${username} was idle for ${LIMIT + 1} s, more than ${LIMIT} s: idlegate cut the session`);
    await eventually('the demo tells of the cut in its terminal', 10, () => demo.output, (output) => told.test(output));
    return `after ${idle.toFixed(2)} s`;
  });

  report.step(`the page reconnects, and does not come back to life in ${QUIET} s`, async () => {
    await sleep(QUIET);
    assert.equal(await page.locator('#expired-dialog').isVisible(), true, 'the dialog is still there');
    assert.deepEqual(traffic.since(cutAt, /POST \/api\/login|auth_success/), [], 'no login after the cut');
    assert.equal(traffic.loggedIn.size, 0, 'no WebSocket is logged in');
    assert.deepEqual(await page.evaluate(() => ({ ...localStorage })), {}, 'localStorage is empty');
    // The front end dials again after every close. Had it not tried, the above would show nothing.
    const again = traffic.since(cutAt, /socket opened/).length;
    assert.ok(again > 0, 'it tried to reconnect');
    await eventually('the page says that it is not logged in', 10, () => connection(page), (text) => /not logged in/.test(text));
    return `reconnected ${again} time(s), not logged in`;
  });

  report.step('the old token is refused wherever it is tried', async () => {
    await page.locator('#retry-old-token').click();
    const settled = (rows) => rows.length >= WAYS && rows.every((row) => REFUSED.test(row));
    await eventually('every row of #retry-results is a refusal', 20, () => retryRows(page), settled);
    await sleep(2); // a row may still be on its way
    const rows = await retryRows(page);
    assert.ok(settled(rows), `not every row is a refusal: ${JSON.stringify(rows)}`);
    assert.deepEqual(traffic.since(cutAt, /auth_success/), [], 'the app never accepted it');
    await picture(page, '4-refused');
    return rows.join(' · ');
  });

  report.step('a reload asks for a new login', async () => {
    await page.reload();
    await page.locator('#login-button').waitFor({ state: 'visible' });
    assert.equal(await page.locator('#expired-dialog').isVisible(), false, 'the dialog is gone');
  });
}

async function main() {
  const url = await demo.start(binary);
  console.log(`demo at ${url}`);
  browser = await launch(profile);
  const [page] = browser.pages();
  const traffic = new Traffic(page);
  const report = new Report();
  steps(report, page, traffic, url);
  return report.run(async () => {
    console.log(`  the page and its traffic:\n${indent(traffic.log.join('\n'))}`);
    console.log(`  the demo said:\n${indent(demo.output)}`);
    await picture(page, 'failed').catch(() => {});
  });
}

async function cleanUp() {
  await browser?.close().catch(() => {});
  await demo.stop();
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}

await run(main, cleanUp);
