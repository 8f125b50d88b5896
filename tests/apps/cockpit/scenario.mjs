// Cockpit of Debian, with a login of the test's own instead of PAM: the cookie cockpit, over HTTP and on the handshake. The
// page and the app ping each other on the WebSocket.
import { mkdir, writeFile } from 'node:fs/promises';

import { cookie } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

const sockets = new WeakMap();
const terminal = (page) => page.frameLocator('iframe[name="cockpit1:localhost/system/terminal"]').locator('.xterm');

export default {
  async start({ port, source, folder }) {
    await mkdir(`${folder}/config/cockpit`, { recursive: true });
    await writeFile(`${folder}/config/cockpit/cockpit.conf`, `[WebService]\nAllowUnencrypted = true\n[basic]\nCommand = ${source}/login.py\n`);
    return {
      command: '/usr/lib/cockpit/cockpit-ws',
      args: ['--no-tls', '--address', '127.0.0.1', '--port', String(port)],
      env: { XDG_CONFIG_DIRS: `${folder}/config`, HOME: folder },
    };
  },
  ready: '/ping',

  async login(page, url) {
    await page.goto(`${url}/system/terminal`);
    await page.fill('#login-user-input', 'ada');
    await page.fill('#login-password-input', 'correct horse');
    const [socket] = await Promise.all([page.waitForEvent('websocket'), page.click('#login-button')]);
    sockets.set(page, socket);
    await terminal(page).waitFor();
  },

  // A command in the terminal. It draws on a canvas, so its answer is read from the WebSocket.
  async work(page, round) {
    const answer = String(1000 + round);
    await terminal(page).click();
    await Promise.all([
      sockets.get(page).waitForEvent('framereceived', ({ payload }) => String(payload).includes(answer)),
      page.keyboard.type(`echo $((1000 + ${round}))\n`),
    ]);
  },

  token: (page) => cookie(page, 'cockpit'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/cockpit/@localhost/system/terminal.html`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/cockpit/login`, { headers: { Cookie } }),
    WebSocket: () => handshake(`${url}/cockpit/socket`, { headers: { Cookie, Origin: url, 'Sec-WebSocket-Protocol': 'cockpit1' } }),
  }),

  sees: /Disconnected Server has closed the connection/,
  reloaded: /ended/,
};
