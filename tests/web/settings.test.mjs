// Settings against a real Berth: a token is made, shown once, used, revoked; users; tenants; the audit log. Skipped without BERTH_URL and BERTH_TOKEN.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { axeFindings, berth, open, PHONE, SHOTS } from './browser.mjs';

const { browser, options, url, token } = await berth(300_000);

const me = async (secret) => (await fetch(`${url}/me`, { headers: { Authorization: `Bearer ${secret}` } })).status;
const enter = async (page, secret) => {
  await page.goto(`${url}/settings#token=${secret}`);
  await page.waitForSelector('.settings');
};

test('a token from the page: made, shown once, good, revoked', options, async (t) => {
  const { page } = await open(browser, t);
  await enter(page, token);
  await page.getByRole('button', { name: 'New token' }).click();
  await page.getByLabel('Name', { exact: true }).fill('from-the-page');
  await page.getByLabel('Role', { exact: true }).selectOption('viewer');
  await page.getByRole('button', { name: 'Create' }).click();
  const secret = await page.locator('.settings-secret code').textContent();
  assert.match(secret, /^bt_[\w-]{43}$/);
  await page.screenshot({ path: path.join(SHOTS, 'settings-secret.png') });
  assert.deepEqual(await axeFindings(page), []);
  await page.getByRole('button', { name: 'Done' }).click();
  assert.equal(await me(secret), 200);
  const row = page.getByRole('row', { name: /from-the-page/ });
  await row.waitFor();
  assert.ok(!(await page.content()).includes(secret), 'the secret is gone with its dialog');
  await page.screenshot({ path: path.join(SHOTS, 'settings-tokens.png') });
  assert.deepEqual(await axeFindings(page), []);
  await row.getByRole('button', { name: 'Revoke' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await row.waitFor({ state: 'detached' });
  const end = Date.now() + 10_000;
  while ((await me(secret)) !== 401) assert.ok(Date.now() < end);
});

test('users, tenants, the audit log', options, async (t) => {
  const { page } = await open(browser, t);
  await enter(page, token);
  await page.getByRole('tab', { name: 'Users' }).click();
  await page.getByLabel('User', { exact: true }).fill('page@example.org');
  await page.getByRole('button', { name: 'Add user' }).click();
  await page.getByLabel('Role of page@example.org').selectOption('viewer');
  await page.getByRole('row', { name: /page@example.org/ }).getByRole('button', { name: 'Disable' }).click();
  await page.getByRole('row', { name: /page@example.org/ }).getByRole('button', { name: 'Enable' }).waitFor();
  await page.getByRole('tab', { name: 'Tenants' }).click();
  await page.getByLabel('Tenant', { exact: true }).fill('from-the-page');
  await page.getByRole('button', { name: 'Add tenant' }).click();
  await page.getByLabel('Slots of from-the-page').fill('2');
  await page.keyboard.press('Tab');
  await page.screenshot({ path: path.join(SHOTS, 'settings-tenants.png') });
  assert.deepEqual(await axeFindings(page), []);
  await page.getByRole('tab', { name: 'Audit' }).click();
  await page.getByRole('row', { name: /POST \/tenants/ }).first().waitFor();
  await page.screenshot({ path: path.join(SHOTS, 'settings-audit.png') });
  assert.deepEqual(await axeFindings(page), []);
  await page.setViewportSize(PHONE);
  await page.screenshot({ path: path.join(SHOTS, 'settings-phone.png') });
});
