// The browser, and how a test with one ends.
//
// SCREENSHOTS=<folder> keeps pictures of the page; CHROMIUM=<path> names another browser.
import { mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

// tests/run installs packages beside the sources, not among them.
const require = createRequire(new URL('../.deps/browser/package.json', import.meta.url));
const { chromium } = require('playwright-core');

const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

const PATIENCE = 10_000;

// A browser of its own, and so many pages of it.
export async function launch(profile, pages = 1) {
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ARGUMENTS,
    viewport: { width: 1280, height: 800 },
  });
  browser.setDefaultTimeout(PATIENCE);
  while (browser.pages().length < pages) await browser.newPage();
  return browser;
}

export async function picture(page, name, options = {}) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), ...options });
}

// Runs `main`, and `cleanUp` whatever happens. The exit code is 0 where `main` says true.
export async function run(main, cleanUp) {
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => cleanUp().finally(() => process.exit(1)));
  }
  try {
    process.exitCode = (await main()) ? 0 : 1;
  } catch (error) {
    console.log(`${error.stack ?? error}\n0 passed, 1 failed`);
    process.exitCode = 1;
  } finally {
    await cleanUp();
  }
}
