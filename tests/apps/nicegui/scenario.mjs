// NiceGUI with a login: the cookie session, over HTTP and on the handshake of socket.io, which pings every few seconds. The
// page's own timer moves a count every second.
import { cookie } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

export default {
  start: ({ python, port, source }) => ({ command: python, args: [`${source}/app.py`, String(port)] }),
  ready: '/login',

  async login(page, url) {
    await page.goto(`${url}/login`);
    await page.locator('input').nth(0).fill('ada');
    await page.locator('input').nth(1).fill('correct horse');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByText('Room of ada').waitFor();
  },

  async work(page, round) {
    await page.locator('input').fill('');
    await page.locator('input').pressSequentially(`input ${round}`);
    await page.keyboard.press('Enter');
    await page.getByText(`computed input ${round}`).waitFor();
  },

  token: (page) => cookie(page, 'session'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/`, { headers: { Cookie } }),
    'long-polling': () => ask(`${url}/_nicegui_ws/socket.io/?EIO=4&transport=polling`, { headers: { Cookie } }),
    WebSocket: () => handshake(`${url}/_nicegui_ws/socket.io/?EIO=4&transport=websocket`, { headers: { Cookie, Origin: url } }),
  }),

  sees: /./,
  reloaded: /^\/login: .*Log in/i,
};
