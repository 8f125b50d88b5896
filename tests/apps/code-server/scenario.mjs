// code-server with a password: the cookie code-server-session, over HTTP and on the handshakes. The page's connections keep
// themselves alive every few seconds.
import { mkdir, writeFile } from 'node:fs/promises';

import { eventually } from '../../browser/report.mjs';
import { cookie, shown } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

export default {
  async start({ port, modules, folder }) {
    await mkdir(`${folder}/work`);
    await writeFile(`${folder}/work/notes.txt`, 'notes\n');
    // It would forward each port of the machine, and say so.
    await mkdir(`${folder}/.local/share/code-server/User`, { recursive: true });
    await writeFile(`${folder}/.local/share/code-server/User/settings.json`, JSON.stringify({ 'remote.autoForwardPorts': false }));
    return {
      command: process.execPath,
      args: [
        `${modules}/code-server/out/node/entry.js`, '--bind-addr', `127.0.0.1:${port}`, '--auth', 'password', '--disable-telemetry',
        '--disable-update-check', '--disable-workspace-trust', '--disable-getting-started-override', `${folder}/work`,
      ],
      env: { HOME: folder, PASSWORD: 'correct horse' },
    };
  },
  ready: '/login',

  async login(page, url) {
    await page.goto(`${url}/`);
  },

  async signIn(page) {
    await page.fill('[name=password]', 'correct horse');
    await page.click('[type=submit]');
    await page.locator('.explorer-folders-view').getByText('notes.txt').waitFor();
  },

  // The file is opened, written to and saved.
  async work(page, round) {
    await page.locator('.explorer-folders-view').getByText('notes.txt').dblclick();
    const editor = page.locator('.monaco-editor .view-lines').first();
    await editor.click();
    await page.keyboard.press('Control+End');
    await page.keyboard.type(`line ${round}\n`);
    await page.keyboard.press('Control+s');
    await page.locator('.tab.active:not(.dirty)').waitFor();
  },

  settles: 2,

  token: (page) => cookie(page, 'code-server-session'),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/manifest.json`, { headers: { Cookie } }),
    WebSocket: () =>
      handshake(`${url}/?reconnectionToken=00000000-0000-4000-8000-000000000000&reconnection=false&skipWebSocketFrames=false`, {
        headers: { Cookie, Origin: url },
      }),
  }),

  // VS Code shows nothing of the end, and tries again for ever.
  silent: true,
  sees: /^\/: work Explorer/,
  after: {
    name: 'used again, the old page saves and does not get to the end of it',
    async action(page) {
      await page.locator('.monaco-editor .view-lines').first().click();
      await page.keyboard.type('too late');
      await page.keyboard.press('Control+s');
      return eventually('it says so', 10, () => shown(page), (text) => /Saving 'notes.txt'/.test(text));
    },
  },
  reloaded: /^\/login: /,
};
