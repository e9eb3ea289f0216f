// The terminal of a slot on a real Berth: BERTH_URL, BERTH_TOKEN, and BERTH_SESSION, an idle session with a desktop, BERTH_HEADLESS, one without
// (tests/system/test_terminal_page.py starts them). Skipped without them.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { axeFindings, berth, open, PHONE, SHOTS } from './browser.mjs';

const { browser, options, url, token } = await berth(300_000, 'BERTH_SESSION', 'BERTH_HEADLESS');
const { BERTH_SESSION: id, BERTH_HEADLESS: headless } = process.env;

const enter = async (page, session) => {
  await page.goto(`${url}/#token=${token}`);
  await page.waitForSelector('.light[data-link="open"]', { state: 'attached' });
  await page.goto(`${url}/s/${session}/terminal`);
  await page.waitForSelector('[data-terminal="open"]', { timeout: 30_000 });
};
/** What the terminal shows, as text. */
const shown = (page) => page.$eval('.xterm-rows', (e) => [...e.children].map((r) => r.textContent).join('\n'));
const sees = (page, text) => page.waitForFunction((t) => document.querySelector('.xterm-rows')?.textContent.replaceAll('\u00a0', ' ').includes(t), text, { timeout: 30_000 });
const shot = (page, name) => page.screenshot({ path: path.join(SHOTS, `terminal-${name}.png`) });
const control = (session, body) => fetch(`${url}/sessions/${session}/control`, { method: 'POST', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
const take = async (page) => {
  await page.locator('.term-bar').getByRole('button', { name: 'Take control' }).click();
  await page.waitForSelector('[data-held="true"]');
};
const COLOURS = "clear; for i in 1 2 3 4 5 6; do printf '\\033[3%dmcolour %d \\033[9%dmbright\\033[0m\\n' $i $i $i; done; ls --color=always -d /usr/bin /tmp; echo 'déjà vu: ┌─┐ 漢字'; echo done-$((6*7))\n";

test('read-only, take control, type, resize, copy, paste, hostile output, end, a new shell', options, async (t) => {
  const { page, faults } = await open(browser, t);
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await enter(page, id);
  await sees(page, '$ ');
  await page.getByText('Read-only', { exact: true }).waitFor();
  await page.locator('.term-host').click();
  await page.keyboard.type('echo early-$((6*7))\n');
  await take(page);
  await page.keyboard.type('echo typed-$((6*7)); stty size\n');
  await sees(page, 'typed-42');
  assert.ok(!(await shown(page)).includes('early'), 'what was typed without the controls has arrived');
  const size = async () => {
    await page.keyboard.type('clear; echo size-$(stty size | tr " " x)-\n');
    const found = await page.waitForFunction(() => /size-(\d+)x(\d+)-/.exec(document.querySelector('.xterm-rows').textContent)?.slice(1));
    return (await found.jsonValue()).map(Number);
  };
  const wide = await size();
  await page.setViewportSize({ width: 1000, height: 600 });
  let narrow = wide;
  for (let i = 0; i < 50 && narrow[0] === wide[0]; i++) narrow = await size();
  assert.ok(narrow[0] < wide[0] && narrow[1] < wide[1], `${wide} ${narrow}`);
  await page.setViewportSize({ width: 1440, height: 900 });
  // A program runs until Ctrl-C.
  await page.keyboard.type('yes\n');
  await page.waitForFunction(() => [...document.querySelectorAll('.xterm-rows > div')].filter((r) => r.textContent.trim() === 'y').length > 5, null, { timeout: 30_000 });
  await page.keyboard.press('Control+c');
  await sees(page, '^C');
  await page.keyboard.type('echo status-$?-$((6*7))\n');
  await sees(page, 'status-130-42');
  // Copy and paste.
  await page.evaluate(() => navigator.clipboard.writeText('echo pasted-$((6*7))\n'));
  await page.getByRole('button', { name: 'Paste' }).click();
  await sees(page, 'echo pasted-');
  await page.keyboard.press('Enter');
  await sees(page, 'pasted-42');
  const row = await page.locator('.xterm-rows > div', { hasText: 'pasted-42' }).last().boundingBox();
  await page.mouse.dblclick(row.x + 20, row.y + row.height / 2);
  await page.keyboard.press('Control+Shift+c');
  await page.waitForFunction(async () => /pasted/.test(await navigator.clipboard.readText()));
  // Titles, queries, half sequences, bytes that are no text: nothing of it acts on the page.
  await page.keyboard.type("printf '\\033]0;<img src=x onerror=document.title=1>\\007\\033]8;;javascript:alert(1)\\007link\\033]8;;\\007\\033[999;999H\\033P\\033[?1049h\\033[?1049l'; head -c 20000 /dev/urandom; reset; echo alive-$((6*7))\n");
  await sees(page, 'alive-42');
  assert.ok(!(await page.title()).includes('<img'));
  await page.keyboard.type(COLOURS);
  await sees(page, 'done-42');
  await shot(page, 'wide-light');
  assert.deepEqual(await axeFindings(page), []);
  // Lost: said, and connected again by a button.
  await page.keyboard.type('exit\n');
  await page.getByText('The shell has ended.').waitFor();
  await shot(page, 'ended');
  await page.getByRole('button', { name: 'New shell' }).click();
  await page.waitForSelector('[data-terminal="open"]');
  await page.waitForSelector('[data-held="true"]');
  await page.keyboard.type('echo anew-$((6*7))\n');
  await sees(page, 'anew-42');
  // Another takes over: read-only at once.
  await control(id, { take: true, force: true, viewer: 'somebody' });
  await page.waitForSelector('[data-held="false"]');
  await page.locator('.term-bar').getByText('has the controls').waitFor();
  await control(id, { release: true });
  assert.deepEqual(faults, []);
});

test('a headless slot, dark, and on a phone', options, async (t) => {
  const { page, faults } = await open(browser, t, { colorScheme: 'dark' });
  await enter(page, headless);
  await take(page);
  await page.keyboard.type(COLOURS);
  await sees(page, 'done-42');
  await shot(page, 'wide-dark');
  assert.deepEqual(await axeFindings(page), []);
  await page.getByRole('button', { name: 'Give back' }).click();
  await page.waitForSelector('[data-held="false"]');
  for (const colorScheme of ['light', 'dark']) {
    const phone = await open(browser, t, { viewport: PHONE, colorScheme });
    await enter(phone.page, headless);
    await sees(phone.page, '$ ');
    await shot(phone.page, `phone-${colorScheme}`);
    await take(phone.page);
    await phone.page.keyboard.type(COLOURS);
    await sees(phone.page, 'done-42');
    await shot(phone.page, `phone-held-${colorScheme}`);
    assert.ok(await phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'wider than the screen');
    assert.deepEqual(await axeFindings(phone.page), []);
    assert.deepEqual(phone.faults, []);
    await phone.page.locator('.term-bar').getByRole('button', { name: 'Give back' }).click();
    await phone.page.waitForSelector('[data-held="false"]');
    await phone.page.context().close();
  }
  assert.deepEqual(faults, []);
});
