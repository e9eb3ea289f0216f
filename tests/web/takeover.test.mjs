// Taking over a desktop and replaying it, on a real Berth: BERTH_URL, BERTH_TOKEN, and BERTH_SESSION, an idle session whose desktop shows
// a terminal that writes what is typed into a file (tests/system/test_takeover_page.py starts it). Skipped without them.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { axeFindings, berth, open, PHONE, SHOTS } from './browser.mjs';

const { browser, options, url, token } = await berth(300_000, 'BERTH_SESSION');
const { BERTH_SESSION: id } = process.env;

const call = async (to, init = {}) => {
  const r = await fetch(url + to, { ...init, headers: { Authorization: `Bearer ${token}`, ...(init.body ? { 'Content-Type': 'application/json' } : {}), ...init.headers } });
  const text = await r.text();
  return { status: r.status, body: r.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text };
};
const enter = async (page) => {
  await page.goto(`${url}/#token=${token}`);
  await page.waitForSelector('.light[data-link="open"]', { state: 'attached' });
  await page.goto(`${url}/s/${id}`);
};
const shot = (page, name) => page.screenshot({ path: path.join(SHOTS, `takeover-${name}.png`) });
const live = (page) => page.waitForSelector('.desk-live[data-live="true"]', { timeout: 30_000 });
/** A number for what a canvas shows. */
const print = (page, selector = '.desk-rfb canvas') => page.$eval(selector, (c) => {
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let h = 0;
  for (let i = 0; i < d.length; i += 4) h = (h * 31 + d[i] * 3 + d[i + 1] * 5 + d[i + 2]) | 0;
  return h;
});
const changed = (page, from, selector) => page.waitForFunction(([f, s]) => {
  const c = document.querySelector(s);
  if (!c || !c.width) return false;
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let h = 0;
  for (let i = 0; i < d.length; i += 4) h = (h * 31 + d[i] * 3 + d[i + 1] * 5 + d[i + 2]) | 0;
  return h !== f;
}, [from, selector ?? '.desk-rfb canvas'], { timeout: 10_000 });

test('take control, type, move, secret, clipboard, size, give back; two others look on', options, async (t) => {
  const { page, faults } = await open(browser, t);
  const others = [await open(browser, t), await open(browser, t, { colorScheme: 'dark' })];
  await enter(page);
  await live(page);
  for (const o of others) {
    await enter(o.page);
    await live(o.page);
  }
  await page.getByText('View only', { exact: true }).waitFor();
  const box = await page.locator('.desk-rfb canvas').boundingBox();
  // View-only: nothing that is done to the canvas arrives.
  await page.mouse.click(box.x + box.width / 4, box.y + box.height / 4);
  await page.keyboard.type('12');
  assert.equal((await call(`/sessions/${id}`)).body.slot.controller, 'agent');

  await page.getByRole('button', { name: 'Take control' }).click();
  await page.getByText('You have the controls').waitFor();
  const seen = await call(`/sessions/${id}`);
  assert.equal(seen.body.slot.controller, 'person');
  await others[0].page.getByText('has the controls').waitFor();
  const before = [await print(page), await print(others[0].page), await print(others[1].page)];
  await page.mouse.move(box.x + box.width / 3, box.y + box.height / 3, { steps: 5 });
  await page.mouse.click(box.x + box.width / 4, box.y + box.height / 4);
  await page.keyboard.type('Typed in the page\n', { delay: 5 });
  await changed(page, before[0]);
  await changed(others[0].page, before[1]);
  await changed(others[1].page, before[2]);
  await shot(page, 'light');
  await shot(others[1].page, 'other-dark');

  await page.getByRole('button', { name: /Type a secret/ }).click();
  await page.getByText('Secret entry', { exact: true }).waitFor();
  assert.equal((await call(`/sessions/${id}/screenshot`)).status, 409);
  await shot(page, 'secret');
  await page.getByRole('button', { name: 'End secret entry' }).click();
  await page.getByText('Secret entry', { exact: true }).waitFor({ state: 'detached' });

  await page.getByRole('button', { name: 'Clipboard' }).click();
  await page.getByLabel('Text', { exact: true }).fill('Grüße aus dem Hafen');
  await page.getByRole('button', { name: 'Put on desktop' }).click();
  await page.waitForSelector('.toast');
  await page.getByLabel('Text', { exact: true }).fill('');
  await page.getByRole('button', { name: 'Fetch from desktop' }).click();
  await page.waitForFunction(() => document.querySelector('.clip-text').value === 'Grüße aus dem Hafen');
  await shot(page, 'clipboard');
  assert.deepEqual(await axeFindings(page), []);
  await page.keyboard.press('Escape');

  await page.getByRole('button', { name: 'Give back' }).click();
  await page.getByText('View only', { exact: true }).waitFor();
  const actions = (await call(`/events/${id}?types=control&limit=1000`)).body.events.map((e) => e.action).filter((a) => a !== 'input');
  assert.deepEqual(actions, ['taken', 'secret_on', 'secret_off', 'released']);
  assert.deepEqual(faults, []);
  for (const o of others) assert.deepEqual(o.faults, []);
});

test('replay: bar with steps, seek, play, a step jumps; the ended session opens on it', options, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page);
  await live(page);
  await page.getByRole('button', { name: 'Replay' }).click();
  await page.waitForSelector('.replay canvas');
  await page.waitForFunction(() => document.querySelector('.replay canvas')?.width > 300);
  await page.waitForSelector('.replay-marks i', { state: 'attached' });
  const first = await print(page, '.replay canvas');
  const bar = page.getByLabel('Position in the recording');
  await bar.focus();
  await page.keyboard.press('End');
  await changed(page, first, '.replay canvas');
  const last = await print(page, '.replay canvas');
  await page.keyboard.press('Home');
  await changed(page, last, '.replay canvas');
  assert.equal(await print(page, '.replay canvas'), first);
  // What it shows is marked in the list of steps, and a step of the list is a place in it.
  const step = (p, n) => p.waitForFunction((i) => [...document.querySelectorAll('.steps-log button')].findIndex((b) => b.ariaCurrent === 'step') === i, n);
  await page.keyboard.press('End');
  await step(page, 1);
  await page.click('.steps-log li button >> nth=0');
  await step(page, 0);
  await page.getByRole('button', { name: 'Speed 1 times' }).click();
  await page.getByRole('button', { name: 'Play' }).click();
  await changed(page, first, '.replay canvas');
  await page.getByRole('button', { name: 'Pause' }).click();
  await shot(page, 'replay-light');
  assert.deepEqual(await axeFindings(page), []);
  // A video of it: the button says how far it is, and the file comes by itself.
  const saved = page.waitForEvent('download', { timeout: 150_000 });
  await page.getByRole('button', { name: 'Export' }).click();
  await page.waitForSelector('[data-export=queued], [data-export=running], [data-export=done]');
  assert.match((await saved).suggestedFilename(), /^A form to fill in\.webm$/);
  await page.waitForSelector('[data-export=done]');
  await page.getByRole('button', { name: 'Back to now' }).click();
  await live(page);

  assert.equal((await call(`/sessions/${id}/stop`, { method: 'POST' })).status, 200);
  const dark = await open(browser, t, { colorScheme: 'dark' });
  await enter(dark.page);
  await dark.page.waitForSelector('.replay canvas', { timeout: 20_000 });
  await dark.page.waitForSelector('.steps-log button');
  await dark.page.click('.steps-log li button');
  await dark.page.waitForFunction(() => document.querySelector('.replay canvas')?.width > 300);
  await shot(dark.page, 'replay-dark');
  assert.deepEqual(await axeFindings(dark.page), []);
  // So is an event of the timeline.
  await dark.page.click('.s-tabs >> text=Timeline');
  for (const n of [1, 0]) {
    await dark.page.click(`.event[data-type="pre_tool"] .event-line >> nth=${n}`);
    await step(dark.page, n);
  }
  const phone = await open(browser, t, { viewport: PHONE });
  await enter(phone.page);
  await phone.page.waitForSelector('.replay canvas', { timeout: 20_000 });
  await shot(phone.page, 'replay-phone');
  assert.deepEqual([...faults, ...dark.faults, ...phone.faults], []);
});
