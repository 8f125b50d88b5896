// Streamlit, which has no login: the cookie _streamlit_xsrf tells browsers apart.
import assert from 'node:assert/strict';

import { cookie } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

export default {
  start: ({ python, port, source }) => ({
    command: python,
    args: [
      '-m', 'streamlit', 'run', `${source}/app.py`, '--server.address', '127.0.0.1', '--server.port', String(port),
      '--server.headless', 'true', '--browser.gatherUsageStats', 'false', '--server.fileWatcherType', 'none',
    ],
  }),
  ready: '/_stcore/health',

  async login(page, url) {
    await page.goto(`${url}/`);
    await page.locator('input').waitFor();
  },

  async work(page, round) {
    await page.locator('input').fill(`input ${round}`);
    await page.keyboard.press('Enter');
    await page.getByText(`computed input ${round}, number`).waitFor();
  },

  token: (page) => cookie(page, '_streamlit_xsrf'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/_stcore/host-config`, { headers: { Cookie } }),
    WebSocket: () => handshake(`${url}/_stcore/stream`, { headers: { Cookie, Origin: url } }),
  }),

  oneTab: 'each page that is loaded writes the cookie in another way, which is another session',
  sees: /Connection error/,
  reloaded: /ended/,

  after: {
    name: 'the old page takes no input',
    async action(page) {
      assert.equal(await page.locator('input').isDisabled(), true);
    },
  },
};
