// Gradio with auth=: a cookie whose name ends with what the app draws at its start. So the rule's name is set once the app
// runs, as the example says.
import assert from 'node:assert/strict';
import { request } from 'node:http';

import { eventually } from '../../browser/report.mjs';
import { cookie, shown } from '../scenario.mjs';
import { ask } from '../wire.mjs';

const NAME = /^access-token-(?!unsecure-)/;
const UNSECURE = /^access-token-unsecure-/;

// Logs in by a program, and returns the names of the cookies.
function cookieNames(upstream) {
  return new Promise((resolve, reject) => {
    const body = new URLSearchParams({ username: 'ada', password: 'correct horse' }).toString();
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded', 'Content-Length': body.length };
    const sent = request(`${upstream}/login`, { method: 'POST', headers }, (response) => {
      response.resume();
      const names = (response.headers['set-cookie'] ?? []).map((line) => line.split('=')[0]);
      resolve(names);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

export default {
  start: ({ python, port, source, folder }) => ({
    command: python,
    args: [`${source}/app.py`, String(port)],
    env: { GRADIO_ANALYTICS_ENABLED: 'False', GRADIO_TEMP_DIR: folder, HF_HUB_OFFLINE: '1' },
  }),
  ready: '/config',

  async env(upstream) {
    const names = await cookieNames(upstream);
    const [name, unsecure] = [NAME, UNSECURE].map((kind) => names.find((one) => kind.test(one)));
    assert.ok(name && unsecure, `no cookies of these names: ${names}`);
    return { IDLEGATE_TOKEN_0_NAME: name, IDLEGATE_TOKEN_1_NAME: unsecure };
  },

  async login(page, url) {
    await page.goto(`${url}/`);
    await page.getByLabel('username').fill('ada');
    await page.getByLabel('password').fill('correct horse');
    await page.getByRole('button', { name: 'Login' }).click();
    await page.getByLabel('Text').waitFor();
  },

  async work(page, round) {
    await page.getByLabel('Text').fill('');
    await page.getByLabel('Text').pressSequentially(`input ${round}`);
    await page.getByRole('button', { name: 'Submit' }).click();
    const shows = (text) => text === `computed input ${round}`;
    await eventually('the result is there', 10, () => page.getByLabel('Result').inputValue(), shows);
  },

  token: async (page) => ({ ...(await cookie(page, NAME)), unsecure: (await cookie(page, UNSECURE)).cookie }),
  carriers: (url, { cookie: Cookie, unsecure }) => ({
    page: () => ask(`${url}/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/gradio_api/info`, { headers: { Cookie } }),
    'the other cookie': () => ask(`${url}/gradio_api/info`, { headers: { Cookie: unsecure } }),
    events: () => ask(`${url}/gradio_api/queue/data?session_hash=abc`, { headers: { Cookie } }),
  }),

  // Gradio shows nothing of the end until it is used again.
  silent: true,
  sees: /^\/: Text .*Submit/,

  after: {
    name: 'used again, the old page shows an error',
    async action(page) {
      await page.getByRole('button', { name: 'Submit' }).click();
      return eventually('an error', 10, () => shown(page), (text) => /error/i.test(text));
    },
  },
  reloaded: /ended/,
};
