// "Connect a model" in a real browser against the FAKE gateway. The route itself: tests/system/test_connect_model.py.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startFake } from '../fakes/gateway.mjs';
import { enter, LIMIT, looks, open, stage } from './browser.mjs';

const { browser, fake } = await stage({ seed: true, speed: 20 });

test('first run: from the welcome to a key that is refused, a field that is wrong, a model that answers and the steps to keep it', LIMIT, async (t) => {
  const empty = await startFake({ speed: 20 });
  t.after(() => empty.close());
  const { page, faults } = await open(browser, t);
  await enter(page, empty);
  await page.click('.hero >> text=Connect a model');
  await page.waitForFunction(() => document.activeElement.id === 'cm-key');
  await page.fill('#cm-key', 'sk-wrong');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.verdict.bad[data-code="key_refused"]:has-text("The key was refused")');
  await page.fill('#cm-key', 'sk-right');
  assert.equal(await page.$('.verdict'), null);
  await page.fill('#cm-url', 'http:///nothing');
  await page.click('.dialog button[type=submit]');
  await page.waitForSelector('#cm-base_url-wrong');
  assert.equal(await page.getAttribute('#cm-url', 'aria-invalid'), 'true');
  await page.fill('#cm-url', 'http://192.168.1.9:8000');
  await page.click('.dialog button[type=submit]');
  await page.waitForSelector('.verdict.bad:has-text("egress_private")');
  await page.fill('#cm-url', 'https://models.example.com');
  await page.click('.dialog button[type=submit]');
  await page.waitForSelector('.verdict.good');
  const steps = await page.locator('.connect-steps pre code').allTextContents();
  assert.deepEqual(steps, ['install -m 600 /dev/stdin /etc/berth/credentials/anthropic-key', 'anthropic_url = https://models.example.com\nmodel = claude-sonnet-5-5', "systemctl restart 'berth-workerd@*'"]);
  assert.ok(!steps.join().includes('sk-right'));
  await page.click('.cm-provider >> text=OpenAI');
  assert.equal(await page.inputValue('#cm-model'), '');
  assert.equal(await page.isDisabled('.dialog button[type=submit]'), true);
  await page.keyboard.press('Escape');
  await page.waitForSelector('.dialog', { state: 'detached' });
  await page.waitForFunction(() => document.activeElement.textContent === 'Connect a model');
  assert.ok(!(await page.evaluate(() => JSON.stringify(localStorage))).includes('sk-right'));
  assert.deepEqual(faults.filter((f) => !/status of 400/.test(f)), []);
});

test('looks: the form of a model that answered', LIMIT, async (t) => {
  await looks(browser, t, 'connect-model', fake, '/', async (page) => {
    await page.click('.strip button');
    await page.fill('#cm-key', 'sk-right');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.connect-steps');
  });
});
