// Node-RED with adminAuth: a bearer token in the page's storage, over HTTP and in the first message of the WebSocket /comms.
import { copyFile } from 'node:fs/promises';

import { ask, handshake } from '../wire.mjs';

export default {
  async start({ port, source, modules, folder }) {
    await copyFile(`${source}/settings.js`, `${folder}/settings.js`);
    return {
      command: process.execPath,
      args: [`${modules}/node-red/red.js`, '--settings', 'settings.js', '--userDir', folder, '--port', String(port)],
      env: { HOME: folder, NODE_PATH: modules },
    };
  },

  async login(page, url) {
    await page.goto(`${url}/`);
    await page.fill('#node-dialog-login-username', 'ada');
    await page.fill('#node-dialog-login-password', 'correct horse');
    // The WebSocket is opened last.
    const comms = page.waitForEvent('websocket', (socket) => socket.url().endsWith('/comms'));
    const started = comms.then((socket) => socket.waitForEvent('framereceived', ({ payload }) => payload.includes('runtime-state')));
    await Promise.all([started, page.click('#node-dialog-login-submit')]);
  },

  // A node is dragged from the palette, and the flows are deployed.
  async work(page, round) {
    const { x, y } = await page.locator('.red-ui-palette-node[data-palette-type=comment]').boundingBox();
    await page.mouse.move(x + 60, y + 15);
    await page.mouse.down();
    await page.mouse.move(300, 130 + 45 * round, { steps: 10 });
    await page.mouse.move(400, 150 + 45 * round, { steps: 10 });
    await page.mouse.up();
    await Promise.all([
      page.waitForResponse((answer) => answer.url().endsWith('/flows') && answer.request().method() === 'POST'),
      page.locator('#red-ui-header-button-deploy:not(.disabled)').click(),
    ]);
  },

  token: async (page) => ({ bearer: await page.evaluate(() => JSON.parse(localStorage['auth-tokens'] ?? localStorage['auth-tokens-']).access_token) }),
  carriers: (url, { bearer }) => ({
    program: () => ask(`${url}/flows`, { headers: { Authorization: `Bearer ${bearer}` } }),
    WebSocket: () => handshake(`${url}/comms`, { headers: { Origin: url }, messages: [JSON.stringify({ auth: bearer })] }),
  }),

  sees: /Username: Password:/,
  reloaded: /Username/,
};
