// The palette, shortcuts and the list of very many sessions, in a real browser against the FAKE gateway.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { startFake } from '../fakes/gateway.mjs';
import { axeFindings, enter, LIMIT, open, root, stage } from './browser.mjs';

const { browser, fake } = await stage({ seed: true, speed: 4, demo: false });

test('the palette finds a session and an action; shortcuts go where they say; the sheet names them', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page, fake);
  await page.waitForSelector('.card');
  await page.keyboard.press('Control+k');
  await page.fill('.palette input', 'october inv');
  await page.waitForSelector('.palette [aria-selected="true"]:has-text("Reconcile October")');
  assert.deepEqual(await axeFindings(page), []);
  await page.keyboard.press('Enter');
  await page.waitForSelector('.s-title:has-text("Reconcile October")');
  const press = (k) => page.locator('body').press(k);
  await press('t');
  await page.waitForSelector('.timeline');
  await press('t');
  await page.waitForSelector('.composer');
  await press('k');
  await page.waitForSelector('.s-title:has-text("Crawl the status page")');
  for (const [key, path] of [['a', '/a'], ['c', '/c'], ['h', '/w'], ['d', '/d'], ['s', '/']]) {
    await press('g');
    await press(key);
    await page.waitForFunction((p) => location.pathname === p, path);
  }
  await press('?');
  await page.waitForSelector('.keys');
  assert.deepEqual(await axeFindings(page), []);
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+k');
  await page.fill('.palette input', 'shortcuts');
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => !document.querySelector('dialog[open]'));
  assert.deepEqual(faults, []);
});

test('10 000 sessions: few cards are drawn; four sorts; filters by status and agent', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const many = await startFake({ speed: 4, demo: false });
  t.after(() => many.close());
  for (let i = 1; i <= 10_000; i++) {
    const s = many.newSession({ session_name: `Task ${i}`, agent_name: i % 10 ? 'ledger' : 'scout' }, Date.now() - i * 1000);
    s.session.usage.cost_usd = i === 5000 ? 99 : 0;
    s.session.status = i === 7000 ? 'waiting' : 'finished';
  }
  await enter(page, many);
  const first = (name) => page.waitForFunction((n) => document.querySelector('.card .card-name')?.textContent === n, name);
  await first('Task 1');
  assert.ok((await page.locator('.card').count()) < 60);
  await page.evaluate(() => {
    document.querySelector('.side-list').scrollTop = 1e9;
  });
  await page.waitForSelector('.card:has-text("Task 10000")');
  await page.evaluate(() => {
    document.querySelector('.side-list').scrollTop = 0;
  });
  await page.click('[aria-label="Sort and filter"]');
  await page.selectOption('[data-sort]', 'cost');
  await first('Task 5000');
  await page.selectOption('[data-sort]', 'name');
  await first('Task 1');
  await page.selectOption('[data-sort]', 'created');
  await first('Task 1');
  await page.selectOption('[data-agent-filter]', 'scout');
  await first('Task 10');
  await page.selectOption('[data-status-filter]', 'waiting');
  await page.waitForFunction(() => document.querySelectorAll('.card').length >= 1 && document.querySelector('.card-name').textContent === 'Task 7000');
  assert.deepEqual(await axeFindings(page), []);
  assert.deepEqual(faults, []);
});

test('the first load is at most 150 KiB gzip, and loads neither editor nor display', LIMIT, async (t) => {
  const { page } = await open(browser, t);
  const loaded = [];
  page.on('response', (r) => r.url().startsWith(fake.url) && /\/assets\/|\/$/.test(r.url()) && loaded.push(new URL(r.url()).pathname));
  await enter(page, fake);
  await page.waitForSelector('.card');
  const bytes = [...new Set(loaded)].map((p) => readFileSync(path.join(root, 'web/dist', p === '/' ? 'index.html' : p))).reduce((n, b) => n + gzipSync(b, { level: 9 }).length, 0);
  console.log(`# first load ${(bytes / 1024).toFixed(1)} KiB gzip`);
  assert.ok(bytes <= 150 * 1024, `${bytes}`);
  assert.equal(loaded.some((p) => /editor|rfb|pdf/.test(p)), false);
});

test('focus comes back to what opened it: the palette, the form of a session, a question', LIMIT, async (t) => {
  const { page } = await open(browser, t);
  await enter(page, fake);
  const at = (what) => page.waitForFunction((w) => document.activeElement.matches(w), what);
  await page.focus('.home-actions .primary');
  await page.keyboard.press('Control+k');
  await at('.palette input');
  await page.keyboard.press('Escape');
  await at('.home-actions .primary');
  await page.keyboard.press('Enter');
  await at('#ns-message');
  await page.keyboard.press('Escape');
  await at('.home-actions .primary');
  await page.goto(`${fake.url}/a/ledger`);
  await page.click('[aria-label="Delete agent"]');
  await page.waitForSelector('.dialog');
  await page.keyboard.press('Escape');
  await at('[aria-label="Delete agent"]');
});
