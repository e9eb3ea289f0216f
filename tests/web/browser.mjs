// A headless Chromium for the walks of the page; Debian's, or the one CHROMIUM names.
import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const require = createRequire(path.join(root, 'web/package.json'));
const { chromium } = require('playwright-core');
const axe = require.resolve('axe-core');

export const SHOTS = path.join(process.env.ARTEFACTS ?? path.join(root, 'artefacts'), 'web');
mkdirSync(SHOTS, { recursive: true });

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

export const LIMIT = { timeout: 300_000 };

/** What a file of walks on the FAKE gateway begins with: a browser and a gateway, closed after its last test. */
export async function stage(options) {
  const { startFake } = await import('../fakes/gateway.mjs');
  const [browser, fake] = await Promise.all([launch(), startFake(options)]);
  after(async () => {
    await browser.close();
    await fake.close();
  });
  return { browser, fake };
}

/** What a file of walks on a real Berth begins with. `options` skips its tests where BERTH_URL, BERTH_TOKEN or one of the names is not set. */
export async function berth(timeout, ...names) {
  const missing = ['BERTH_URL', 'BERTH_TOKEN', ...names].filter((n) => !process.env[n]);
  const browser = missing.length > 0 ? null : await launch();
  after(() => browser?.close());
  return { browser, options: { skip: missing.length > 0 ? `not set: ${missing.join(', ')}` : false, timeout }, url: process.env.BERTH_URL, token: process.env.BERTH_TOKEN };
}

export const WIDE = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

/** A page, closed with its test, that remembers every error and every breach of the content policy. */
export async function open(browser, t, { viewport = WIDE, colorScheme = 'light', reducedMotion = 'no-preference' } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion, deviceScaleFactor: viewport.width < 500 ? 2 : 1 });
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(45_000);
  const faults = [];
  page.on('pageerror', (e) => faults.push(String(e)));
  page.on('console', (m) => {
    // A connection that is refused while a test holds the server down is what that test is about; a display may end while it is being opened.
    if (m.type() === 'error' && !/Failed when connecting: Connection closed|ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|WebSocket connection|status of 40[149]|status of 503/.test(m.text())) faults.push(m.text());
  });
  return { page, faults };
}

/** Serious and critical findings of axe, as text. */
export async function axeFindings(page) {
  await page.evaluate(await (await import('node:fs/promises')).readFile(axe, 'utf8'));
  // What is still fading in has not its colours yet.
  await page.waitForFunction(() => document.getAnimations().every((a) => a.playState !== 'running' || a.effect?.getComputedTiming().iterations === Infinity));
  return page.evaluate(async () => {
    const r = await globalThis.axe.run(document, { resultTypes: ['violations'] });
    return r.violations
      .filter((v) => v.impact === 'serious' || v.impact === 'critical')
      .map((v) => `${v.id}: ${v.nodes.slice(0, 4).map((n) => `${n.target.join(' ')} ${n.failureSummary?.split('\n')[1]?.trim() ?? ''}`).join(' | ')}`);
  });
}

/** Signed in to a fake, at the address. */
export async function enter(page, fake, to = '/') {
  await page.goto(`${fake.url}/#token=${fake.token}`);
  await page.waitForSelector('.side', { state: 'attached' });
  if (to !== '/') await page.goto(fake.url + to);
}

/** A screenshot and the findings of axe for each theme and size, one page per pair. */
export async function looks(browser, t, name, fake, to, ready) {
  for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
    for (const colorScheme of ['light', 'dark']) {
      const { page, faults } = await open(browser, t, { viewport, colorScheme, reducedMotion: 'reduce' });
      await enter(page, fake, to);
      await ready(page, size);
      await page.screenshot({ path: path.join(SHOTS, `${name}-${size}-${colorScheme}.png`) });
      const found = await axeFindings(page);
      if (found.length > 0) throw new Error(`${name} ${size} ${colorScheme}: ${found.join('\n')}`);
      if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) throw new Error(`${name} ${size}: wider than the screen`);
      if (faults.length > 0) throw new Error(`${name} ${size} ${colorScheme}: ${faults.join('\n')}`);
      await page.context().close();
    }
  }
}
