// marimo with a password: the cookie session_<port>, over HTTP and on the handshake. The page polls every 10 to 60 s.
import { cookie } from '../scenario.mjs';
import { ask, handshake } from '../wire.mjs';

export default {
  start: ({ python, port, source, folder }) => ({
    command: 'sh',
    // It runs the cells when the notebook is opened, which is a setting.
    args: [
      '-c',
      'cp "$0/notebook.py" "$0/marimo.toml" . && mkdir -p .config/marimo && cp marimo.toml .config/marimo/ && exec "$1" -m marimo edit notebook.py --headless --host 127.0.0.1 --port $2 --token-password "correct horse" --skip-update-check --no-sandbox',
      source, python, String(port),
    ],
    env: { HOME: folder, XDG_CONFIG_HOME: `${folder}/.config` },
  }),
  // The name of the cookie has the port of the app.
  env: (upstream) => ({ IDLEGATE_TOKEN_0_NAME: `session_${new URL(upstream).port}` }),
  ready: '/health',

  async login(page, url) {
    await page.goto(`${url}/`);
  },

  async signIn(page) {
    await page.fill('[name=password]', 'correct horse');
    await page.click('[type=submit]');
    await page.locator('marimo-ui-element input').first().waitFor();
  },

  async work(page, round) {
    const field = page.locator('marimo-ui-element input').first();
    await field.fill(`input ${round}`);
    await page.keyboard.press('Enter');
    await page.getByText(`computed input ${round}`).first().waitFor();
  },

  token: (page) => cookie(page, /^session_\d+$/),
  carriers: (url, { cookie: Cookie }) => ({
    page: () => ask(`${url}/`, { headers: { Cookie, Accept: 'text/html' } }),
    program: () => ask(`${url}/api/usage`, { headers: { Cookie } }),
    WebSocket: () => handshake(`${url}/ws?session_id=s_123456`, { headers: { Cookie, Origin: url } }),
  }),

  sees: /kernel not found/,
  reloaded: /^\/auth\/login: /,
};
