// JupyterLab with a password and a kernel: the cookie jupyter-session, over HTTP and on the handshakes. The page polls every
// 10 s.
import { copyFile, writeFile } from 'node:fs/promises';

import { cookie } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

const NOTEBOOK = { cells: [], metadata: { kernelspec: { name: 'python3', display_name: 'Python 3' } }, nbformat: 4, nbformat_minor: 5 };

export default {
  async start({ bin, port, source, folder }) {
    await copyFile(`${source}/jupyter_server_config.py`, `${folder}/jupyter_server_config.py`);
    await writeFile(`${folder}/work.ipynb`, JSON.stringify(NOTEBOOK));
    return {
      command: `${bin}/jupyter`,
      args: ['lab', '--config=jupyter_server_config.py', '--allow-root', '--no-browser', '--ip=127.0.0.1', `--port=${port}`],
      env: { HOME: folder, JUPYTER_PLATFORM_DIRS: '1' },
    };
  },
  ready: '/login',

  async login(page, url) {
    await page.goto(`${url}/lab/tree/work.ipynb`);
  },

  async signIn(page) {
    await page.fill('[name=password]', 'correct horse');
    // What is run before the kernel has answered is lost.
    const kernel = page.waitForEvent('websocket', (socket) => socket.url().includes('/channels'));
    await Promise.all([kernel.then((socket) => socket.waitForEvent('framereceived')), page.click('#login_submit')]);
    await page.locator('.jp-Notebook-ExecutionIndicator[data-status=idle]').waitFor();
  },

  // A cell is written and run: on the WebSocket of the kernel.
  async work(page, round) {
    await page.locator('.jp-Notebook .cm-content').last().click();
    await page.keyboard.type(`1000 + ${round}`);
    await page.keyboard.press('Shift+Enter');
    await page.locator('.jp-OutputArea-output', { hasText: String(1000 + round) }).first().waitFor();
  },

  token: (page) => cookie(page, 'jupyter-session'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/lab`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/api/kernels`, { headers: { Cookie } }),
    WebSocket: () => handshake(`${url}/api/events/subscribe`, { headers: { Cookie, Origin: url } }),
  }),

  sees: /Kernel died unexpectedly/,
  reloaded: /^\/login: .*Password/i,
};
