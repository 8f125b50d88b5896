// Flask-Login and Flask-SocketIO: the cookie session, over HTTP and on the handshake. socket.io pings every 4 s.
import { cookie } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

export default {
  start: ({ python, port, source, modules }) => ({
    command: python,
    args: [`${source}/app.py`, String(port)],
    env: { APP_SOCKETIO: `${modules}/socket.io-client/dist` },
  }),
  ready: '/login',

  async login(page, url) {
    await page.goto(`${url}/`);
  },

  async signIn(page) {
    await page.fill('[name=user]', 'ada');
    await page.fill('[name=password]', 'correct horse');
    await page.click('button');
    await page.locator('#status', { hasText: 'open' }).waitFor();
  },

  async work(page, round) {
    await page.locator('#text').pressSequentially(`input ${round}`);
    await page.keyboard.press('Enter');
    await page.locator('#log li', { hasText: `input ${round}` }).waitFor();
  },

  token: (page) => cookie(page, 'session'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/`, { headers: { Cookie } }),
    'long-polling': () => ask(`${url}/socket.io/?EIO=4&transport=polling`, { headers: { Cookie } }),
    WebSocket: () => handshake(`${url}/socket.io/?EIO=4&transport=websocket`, { headers: { Cookie, Origin: url } }),
  }),

  sees: /no connection|disconnected/,
  reloaded: /^\/login: .*Log in/,
  // Without the cookie, which the refusal has removed, the app opens a connection and refuses the user.
  nothing: /^GET \/login: |\/socket\.io\/: (200 (0\{"sid"|44\{"message":"Connection rejected|OK|6$)|received (3probe|44\{"message":"Connection rejected))/,
};
