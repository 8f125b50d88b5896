// Panel with --basic-auth: the cookie user, over HTTP and on the handshake of Bokeh's WebSocket. The app moves a clock every
// second.
import { cookie } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

export default {
  start: ({ bin, port, source }) => ({
    command: `${bin}/panel`,
    args: [
      'serve', `${source}/app.py`, '--address', '127.0.0.1', '--port', String(port), '--allow-websocket-origin', '*',
      '--basic-auth', 'correct horse', '--cookie-secret', 'for tests only',
    ],
  }),
  ready: '/login',

  async login(page, url) {
    await page.goto(`${url}/app`);
  },

  async signIn(page) {
    await page.fill('[name=username]', 'ada');
    await page.fill('[name=password]', 'correct horse');
    await page.locator('[type=submit], button').first().click();
    await page.getByText('nothing yet').waitFor();
  },

  async work(page, round) {
    await page.locator('input').fill('');
    await page.locator('input').pressSequentially(`input ${round}`);
    await page.keyboard.press('Enter');
    await page.getByText(`computed input ${round}`).waitFor();
  },

  token: (page) => cookie(page, 'user'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/app`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/app`, { headers: { Cookie } }),
    WebSocket: () =>
      handshake(`${url}/app/ws`, { headers: { Cookie, Origin: url, 'Sec-WebSocket-Protocol': 'bokeh, none' } }),
  }),

  sees: /Connection lost/,
  reloaded: /^\/login: /,
};
