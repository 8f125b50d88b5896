// Dash with dcc.Interval: the clock asks every second, by the same path as a click.
import assert from 'node:assert/strict';

import { cookie } from '../scenario.mjs';
import { ask } from '../wire.mjs';

export default {
  start: ({ python, port, source }) => ({ command: python, args: [`${source}/app.py`, String(port)] }),
  ready: '/login',

  async login(page, url) {
    await page.goto(`${url}/login`);
    await page.fill('[name=user]', 'ada');
    await page.fill('[name=password]', 'correct horse');
    await page.click('button');
    await page.locator('#clock', { hasText: /:/ }).waitFor();
  },

  async work(page, round) {
    await page.locator('#text').fill('');
    await page.locator('#text').pressSequentially(`input ${round}`);
    await page.locator('#compute').click();
    await page.locator('#result', { hasText: `computed input ${round}` }).waitFor();
  },

  token: (page) => cookie(page, 'session'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/_dash-layout`, { headers: { Cookie } }),
    callback: () =>
      ask(`${url}/_dash-update-component`, {
        method: 'POST',
        headers: { Cookie, 'Content-Type': 'application/json' },
        body: JSON.stringify({
          output: 'clock.children',
          outputs: { id: 'clock', property: 'children' },
          inputs: [{ id: 'refresh', property: 'n_intervals', value: 1 }],
          changedPropIds: ['refresh.n_intervals'],
        }),
      }),
  }),

  // Dash shows nothing of its callbacks' refusals.
  silent: true,
  sees: /^\/: Measurements/,
  after: {
    name: 'used again, the old page gets no answer',
    async action(page) {
      await page.locator('#text').fill('too late');
      const [answer] = await Promise.all([
        page.waitForResponse((one) => (one.request().postData() ?? '').includes('"compute.n_clicks"')),
        page.locator('#compute').click(),
      ]);
      assert.equal(answer.status(), 401);
      assert.doesNotMatch(await page.locator('#result').textContent(), /too late/);
    },
  },
  nothing: /^GET \/login: /,
  reloaded: /^\/login: .*Log in/,
};
