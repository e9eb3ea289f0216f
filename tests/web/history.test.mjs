// A page that is open while its positions come to lead nowhere: events removed by retention, the database restored. A real Berth;
// skipped without BERTH_URL and BERTH_TOKEN. BERTH_MARK is a file: made by us when the page shows the old history, removed when the new one is there.
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { launch, open } from './browser.mjs';

const { BERTH_URL: url, BERTH_TOKEN: token, BERTH_MARK: mark } = process.env;
const options = { skip: url && token && mark ? false : 'BERTH_URL, BERTH_TOKEN and BERTH_MARK are not set', timeout: 180_000 };
const WAIT = { timeout: 60_000 };

let browser;
before(async () => {
  if (!options.skip) browser = await launch();
});
after(() => browser?.close());

test('events that are not kept any more: the page begins with the oldest there is', options, async (t) => {
  const { page } = await open(browser, t);
  await page.goto(`${url}/#token=${token}`);
  await page.waitForSelector('.side', { state: 'attached' });
  await page.goto(`${url}/s/old`);
  await page.waitForSelector('.item:has-text("kept words")', WAIT);
  assert.equal(await page.locator('.item:has-text("expired words")').count(), 0);
});

test('the database is restored under an open page: what is lost goes, what is new comes', options, async (t) => {
  const { page } = await open(browser, t);
  await page.goto(`${url}/#token=${token}`);
  await page.waitForSelector('.side [data-link="open"]');
  await page.goto(`${url}/s/s`);
  await page.waitForSelector('.item:has-text("lost words 7")', WAIT);
  writeFileSync(mark, 'shown');
  while (existsSync(mark)) await new Promise((r) => setTimeout(r, 50));
  await page.waitForSelector('.item:has-text("new words 11")', WAIT);
  // The gateway looks at most a second later whose history it is.
  await page.waitForFunction(() => !document.body.innerText.includes('lost words'), null, WAIT);
  await page.waitForSelector('.item:has-text("new words 11")', WAIT);
  await page.waitForSelector('.side [data-link="open"]', WAIT);
  assert.equal(await page.locator('.item:has-text("lost words")').count(), 0);
  assert.equal(await page.locator('.item:has-text("first words")').count(), 1);
  assert.equal(await page.locator('.item:has-text("new words")').count(), 12);
});
