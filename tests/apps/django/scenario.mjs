// Django's admin and Channels: the cookie sessionid, over HTTP and on the handshake of the WebSocket.
import { eventually } from '../../browser/report.mjs';
import { cookie, shown } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

export default {
  start: ({ bin, port, source, folder }) => ({
    command: `${bin}/daphne`,
    args: ['-b', '127.0.0.1', '-p', String(port), 'app:application'],
    env: { PYTHONPATH: source, APP_DATABASE: `${folder}/db.sqlite3` },
  }),
  ready: '/admin/login/',

  async login(page, url) {
    await page.goto(`${url}/chat/`);
  },

  async signIn(page) {
    await page.fill('#id_username', 'ada');
    await page.fill('#id_password', 'correct horse');
    await page.click('[type=submit]');
    await eventually('the WebSocket is open', 10, () => page.locator('#status').textContent(), (text) => text === 'open');
  },

  // On the WebSocket, and every third time by a form.
  async work(page, round) {
    const text = `input ${round}`;
    if (round % 3) {
      await page.locator('#text').pressSequentially(text);
      await page.keyboard.press('Enter');
      await page.locator('#log li', { hasText: text }).waitFor();
    } else {
      await page.fill('#note', text);
      await page.click('#save');
      await page.locator('#saved', { hasText: text }).waitFor();
      await eventually('the WebSocket is open', 10, () => page.locator('#status').textContent(), (open) => open === 'open');
    }
  },

  token: (page) => cookie(page, 'sessionid'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/chat/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/chat/`, { headers: { Cookie } }),
    WebSocket: () => handshake(`${url}/ws/chat/`, { headers: { Cookie, Origin: url } }),
  }),

  sees: /WebSocket: closed/,

  reloaded: /^\/admin\/login\/: .*Username/,

  after: {
    name: 'a form on the old page leads to the login',
    async action(page) {
      await page.fill('#note', 'too late');
      await page.click('#save');
      await page.waitForURL('**/admin/login/**');
      return shown(page);
    },
  },
};
