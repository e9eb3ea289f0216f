// The API reference in a real browser against the FAKE gateway: every operation is there, found by its words, readable in each theme and size.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { operationId } from '../../web/reference.mjs';
import { enter, LIMIT, looks, open, root, stage } from './browser.mjs';

const { browser, fake } = await stage({ demo: false });
const api = JSON.parse(readFileSync(path.join(root, 'gatewayd/openapi.json'), 'utf8'));

test('each operation and schema has its place, and no link leads nowhere', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await page.goto(`${fake.url}/reference.html`);
  const ids = new Set(await page.$$eval('[id]', (all) => all.map((e) => e.id)));
  const wanted = Object.entries(api.paths).flatMap(([p, item]) => Object.keys(item).map((m) => operationId(m, p)));
  assert.ok(wanted.length > 90);
  assert.deepEqual([...wanted, ...Object.keys(api.components.schemas).map((n) => `schema-${n}`)].filter((id) => !ids.has(id)), []);
  const to = await page.$$eval('a[href^="#"]', (all) => all.map((a) => a.getAttribute('href').slice(1)));
  assert.deepEqual(to.filter((id) => !ids.has(id)), []);
  assert.equal(ids.size, await page.$$eval('[id]', (all) => all.length));
  assert.deepEqual(faults, []);
});

test('words find operations; nothing found is said; the palette and the settings lead here', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await page.goto(`${fake.url}/reference.html`);
  await page.fill('#find', 'post takeover');
  assert.deepEqual(await page.$$eval('.op[data-find]:not([hidden])', (all) => all.map((e) => e.id)), []);
  assert.equal(await page.isVisible('#none'), true);
  await page.fill('#find', 'take over the desktop');
  assert.deepEqual(await page.$$eval('.op[data-find]:not([hidden])', (all) => all.map((e) => e.id)), ['post-sessions-id-control']);
  assert.equal(await page.isVisible('#none'), false);
  assert.equal(await page.isVisible('#documents'), false);
  await enter(page, fake);
  await page.keyboard.press('Control+k');
  await page.fill('.palette input', 'api reference');
  const [opened] = await Promise.all([page.context().waitForEvent('page'), page.keyboard.press('Enter')]);
  await opened.waitForSelector('h1:has-text("API reference")');
  assert.deepEqual(faults, []);
});

test('axe finds nothing serious in the reference', LIMIT, async (t) => {
  await looks(browser, t, 'reference', fake, '/reference.html#post-sessions', (page) => page.waitForSelector('#post-sessions'));
});
