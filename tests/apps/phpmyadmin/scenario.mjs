// phpMyAdmin of Debian with cookie authentication: the cookie phpMyAdmin. By itself the page asks whether its session is still
// there, and the second tab draws the charts of the server's monitor.
import assert from 'node:assert/strict';

import { cookie } from '../scenario.mjs';
import { ask } from '../wire.mjs';

const PERSON = { Accept: 'text/html' };
const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' };
const SCRIPT = { ...FORM, 'X-Requested-With': 'XMLHttpRequest' };

const loginPages = new WeakMap(); // their cookies: a login takes another one

export default {
  start: ({ port, source }) => ({ command: `${source}/serve`, args: [String(port)] }),

  async login(page, url) {
    await page.goto(`${url}/`);
    if (!loginPages.has(page)) loginPages.set(page, await cookie(page, 'phpMyAdmin'));
    await page.fill('#input_username', 'ada');
    await page.fill('#input_password', 'correct horse');
    await page.click('#input_go');
    await page.locator('#topmenu').waitFor();
    await page.goto(`${url}/index.php?route=/server/status/monitor`);
    await page.waitForResponse((answer) => answer.url().includes('/server/status/monitor/chart'));
  },

  // A query is typed and run.
  async work(page, round) {
    await page.locator('#topmenu a', { hasText: 'SQL' }).click();
    await page.locator('#sqlqueryform .CodeMirror').click();
    await page.keyboard.type(`SELECT 1000 + ${round}`);
    await page.click('#button_submit_query');
    await page.locator('.table_results td', { hasText: String(1000 + round) }).waitFor();
  },

  token: (page) => cookie(page, 'phpMyAdmin'),
  carriers: (url, { cookie: Cookie }) => {
    const secure = Cookie.replace('=', '_https=');
    return {
      page: () => ask(`${url}/index.php?route=/server/sql`, { headers: { ...PERSON, Cookie } }),
      program: () => ask(`${url}/index.php?route=/server/sql&ajax_request=1`, { headers: { ...SCRIPT, Cookie } }),
      poll: () => ask(`${url}/index.php?route=/`, { method: 'POST', headers: { ...SCRIPT, Cookie }, body: 'ajax_request=true&check_timeout=1' }),
      // The app goes by this field of the client, and looks for the same session under another name.
      'HTTPS cookie': () => ask(`${url}/index.php?route=/server/sql`, { headers: { 'Front-End-Https': 'on', Cookie: secure } }),
    };
  },

  sees: /Error in processing request Error code: 401/,
  reloaded: /^\/: .*Username/,

  after: {
    name: 'its other cookies log nobody in, and a login page that was left open leads to a new one',
    async action(page, url) {
      const others = (await page.context().cookies()).filter(({ name }) => name !== 'phpMyAdmin');
      const names = others.map(({ name }) => name);
      assert.ok(names.includes('pmaUser-1') && names.includes('pmaAuth-1'), `the cookies that it also has: ${names}`);
      const Cookie = others.map(({ name, value }) => `${name}=${value}`).join('; ');
      const { status, body } = await ask(`${url}/index.php?route=/server/sql`, { headers: { ...PERSON, Cookie } });
      assert.ok(body.includes('id="login_form"') && !body.includes('id="topmenu"'), `${status} ${body.slice(0, 1000)}`);
      const form = { method: 'POST', headers: { ...PERSON, ...FORM, Cookie: loginPages.get(page).cookie }, body: 'pma_username=ada&pma_password=correct+horse&server=1' };
      const left = await ask(`${url}/index.php?route=/`, form);
      assert.deepEqual([left.status, left.location], [303, '/']);
      return `with ${names.join(', ')}: the login page; the form: ${left.status} to ${left.location}`;
    },
  },
};
