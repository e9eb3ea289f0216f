// The timeline of a session in a real browser against the FAKE gateway.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { enter, LIMIT, looks, open, stage } from './browser.mjs';

const EVENTS = 10_000;
const { browser, fake } = await stage({ seed: true, speed: 4, demo: false });

test('10 000 events: few are drawn, filter, details, jump, export, follows the end until scrolled', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const s = fake.newSession({ session_name: 'Long' });
  const evil = '<img src=x onerror="window.hacked=1">';
  for (let i = 1; i <= EVENTS; i++) fake.emit(s, i % 2 ? 'log' : 'thinking', i % 2 ? { level: 'info', message: `line ${i} ${evil}` } : { content: `thought ${i}` });
  await enter(page, fake, `/s/${s.session.session_id}/timeline`);
  await page.waitForSelector(`.event[data-seq="${EVENTS}"]`);
  assert.ok((await page.locator('.event').count()) < 120);
  fake.emit(s, 'log', { level: 'info', message: 'new at the end' });
  await page.waitForSelector(`.event[data-seq="${EVENTS + 1}"]`);
  await page.hover('.events');
  await page.mouse.wheel(0, -2000);
  await page.waitForSelector('.timeline-end');
  fake.emit(s, 'log', { level: 'info', message: 'not followed' });
  await page.waitForSelector('.type:has-text("5002")');
  assert.equal(await page.$(`.event[data-seq="${EVENTS + 2}"]`), null);
  await page.fill('.timeline-tools input', '4321');
  await page.keyboard.press('Enter');
  await page.click('.event[data-seq="4321"] .event-line');
  await page.waitForSelector('.event[data-seq="4321"] pre:has-text("line 4321")');
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  await page.click('.type:has-text("thinking")');
  await page.waitForFunction(() => ![...document.querySelectorAll('.event')].some((e) => e.dataset.type === 'thinking'));
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('text=Export')]);
  const lines = readFileSync(await download.path(), 'utf8').trim().split('\n').map((l) => JSON.parse(l));
  assert.equal(lines.length, EVENTS / 2 + 2);
  await page.click('text=Fold all');
  await page.click('text=Expand all');
  await page.waitForFunction(() => document.querySelectorAll('.event-json').length > 3);
  // How long the page needs to draw 60 scrolled frames of it: told, not judged, for the machine is shared.
  const ms = await page.evaluate(async () => {
    const box = document.querySelector('.events');
    const frame = () => new Promise((r) => requestAnimationFrame(r));
    const start = performance.now();
    for (let i = 0; i < 60; i++) {
      box.scrollTop += 400;
      await frame();
    }
    return performance.now() - start;
  });
  console.log(`# 60 scrolled frames of ${EVENTS} open events: ${Math.round(ms)} ms`);
  assert.deepEqual(faults, []);
});

test('looks: the timeline', LIMIT, async (t) => {
  const { s, done } = fake.create({ session_name: 'Unpaid orders', message: 'Who still owes us money?' }, { fast: true });
  await done;
  await looks(browser, t, 'timeline', fake, `/s/${s.session.session_id}/timeline`, (page) => page.waitForSelector('.event'));
});

test('files of the slot: folders, upload, download, delete; gone with the slot', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const s = fake.newSession({ session_name: 'Files' });
  fake.setStatus(s, 'running');
  await enter(page, fake, `/s/${s.session.session_id}/files`);
  await page.click('[data-file="data"] .file-name');
  await page.waitForSelector('[data-file="orders.csv"]');
  await page.setInputFiles('[data-slot-upload]', { name: 'a b#c.txt', mimeType: 'text/plain', buffer: Buffer.from('hello') });
  await page.waitForSelector('[data-file="a b#c.txt"]:has-text("5 B")');
  assert.equal(fake.more.files.get(s.session.session_id).get('data/a b#c.txt').toString(), 'hello');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-file="a b#c.txt"] .file-name')]);
  assert.equal(readFileSync(await download.path(), 'utf8'), 'hello');
  await page.click('[aria-label="Delete a b#c.txt"]');
  await page.click('.dialog .solid-danger');
  await page.waitForFunction(() => !document.querySelector('[data-file="a b#c.txt"]'));
  await looks(browser, t, 'files', fake, `/s/${s.session.session_id}/files`, (p) => p.waitForSelector('[data-file="report.md"]'));
  fake.setStatus(s, 'stopped');
  await page.waitForSelector('.slot-files .blank:has-text("no slot")');
  assert.deepEqual(faults, []);
});
