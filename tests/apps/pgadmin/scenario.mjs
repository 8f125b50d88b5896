// pgAdmin 4 in server mode: the cookie pga4_session.
import { cookie } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

export default {
  start: ({ bin, port, source, folder }) => ({
    command: `${bin}/pgadmin4`,
    args: [],
    env: {
      PYTHONPATH: source, APP_FOLDER: folder, APP_PORT: String(port), HOME: folder,
      PGADMIN_SETUP_EMAIL: 'ada@example.com', PGADMIN_SETUP_PASSWORD: 'correct horse',
    },
  }),
  ready: '/misc/ping',

  async login(page, url) {
    await page.goto(`${url}/login`);
    await page.fill('[name=email]', 'ada@example.com');
    await page.fill('[name=password]', 'correct horse');
    await page.getByRole('button', { name: 'Login' }).click();
    await page.getByText('Add New Server').waitFor();
  },

  // The preferences are opened and closed.
  async work(page) {
    await page.getByRole('button', { name: 'File' }).click();
    await Promise.all([
      page.waitForResponse((answer) => new URL(answer.url()).pathname === '/preferences/'),
      page.getByRole('menuitem', { name: 'Preferences' }).click(),
    ]);
    await page.locator('.dock-tab-btn', { hasText: 'Preferences' }).getByRole('button', { name: 'Close' }).click();
  },

  token: (page) => cookie(page, 'pga4_session'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/browser/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/preferences/get_all`, { headers: { Cookie } }),
    WebSocket: () => handshake(`${url}/socket.io/?EIO=4&transport=websocket`, { headers: { Cookie, Origin: url } }),
  }),

  // pgAdmin shows nothing of the end. Used again, its preferences turn the page white, whatever the body of the 401 is.
  silent: true,
  sees: /^\/browser\/: File Object/,
  reloaded: /^\/login: .*Login/,
};
