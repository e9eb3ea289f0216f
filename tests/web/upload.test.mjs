// The upload page against a real Berth: set BERTH_URL, BERTH_TOKEN, and UPLOAD_CONTEXT (what the agent is told). Skipped without them.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { axeFindings, berth, open, PHONE, SHOTS } from './browser.mjs';

const { browser, options, url, token } = await berth(300_000, 'UPLOAD_CONTEXT');
const { UPLOAD_CONTEXT: context } = process.env;

test('a folder goes up, its log shows live, the download has it', options, async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'berth-upload-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(path.join(folder, 'set/deep'), { recursive: true });
  writeFileSync(path.join(folder, 'set/deep/a.csv'), 'a,b\n1,2\n');
  writeFileSync(path.join(folder, 'set/b.txt'), 'b');

  const { page, faults } = await open(browser, t);
  await page.goto(`${url}/#token=${token}`);
  await page.getByRole('link', { name: 'Upload' }).click();
  await page.locator('input[data-folder]').setInputFiles(path.join(folder, 'set'));
  // One more by drop.
  const dropped = await page.evaluateHandle(() => {
    const d = new DataTransfer();
    d.items.add(new File(['dropped'], 'dropped.txt'));
    return d;
  });
  await page.dispatchEvent('[data-drop]', 'drop', { dataTransfer: dropped });
  await page.getByText('3 files', { exact: false }).waitFor();
  await page.locator('textarea').fill(context);
  await page.screenshot({ path: path.join(SHOTS, 'upload.png') });
  assert.deepEqual(await axeFindings(page), []);
  await page.getByRole('button', { name: 'Upload and start' }).click();
  await page.waitForURL(/\/u\/\d{14}[0-9a-f]{8}$/);
  const id = page.url().split('/').at(-1);
  await fetch(`${url}/log`, { method: 'POST', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ session_id: id, level: 'warning', message: 'Entry <b>one</b>', data: { rows: 2 } }) });
  await page.locator('.log-card[data-type="log"][data-level="warning"]', { hasText: 'Entry <b>one</b>' }).waitFor();
  await page.locator('.log-card[data-type="status"]', { hasText: 'idle' }).waitFor({ timeout: 60_000 });
  await page.screenshot({ path: path.join(SHOTS, 'upload-run.png') });
  assert.deepEqual(await axeFindings(page), []);
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download all' }).click()]);
  const zip = readFileSync(await download.path());
  for (const name of ['data/set/deep/a.csv', 'data/set/b.txt', 'data/dropped.txt']) assert.ok(zip.includes(name), name);
  assert.equal(download.suggestedFilename(), `dataset-volume-${id}.zip`);

  // The address keeps the run: after a reload all of its log is there again, once.
  await page.reload();
  await page.locator('.log-card', { hasText: 'Entry <b>one</b>' }).waitFor();
  assert.equal(await page.locator('.log-card', { hasText: 'Entry <b>one</b>' }).count(), 1);
  await page.setViewportSize(PHONE);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing sticks out on a phone');
  await page.waitForFunction(() => document.querySelector('.side').getBoundingClientRect().right <= 0);
  await page.screenshot({ path: path.join(SHOTS, 'upload-phone.png') });
  assert.deepEqual(faults, []);
});
