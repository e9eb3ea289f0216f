// Walks through the page in a real browser against the FAKE gateway (tests/fakes/gateway.mjs).
// What needs the daemons is in system.test.mjs.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { startFake } from '../fakes/gateway.mjs';
import { axeFindings, LIMIT, open, PHONE, SHOTS, stage, WIDE } from './browser.mjs';

const { browser, fake } = await stage({ seed: true, speed: 4 });

const enter = async (page, to = '/', f = fake) => {
  await page.goto(`${f.url}/#token=${f.token}`);
  await page.waitForSelector('.side', { state: 'attached' });
  if (to !== '/') await page.goto(f.url + to);
};
const shownSeqs = (page) => page.$$eval('.item', (els) => els.map((e) => e.dataset.key));
/** The keys that the events must have produced: each once, in order. */
const wantedKeys = (s) => {
  const keys = [];
  for (const e of s.events) {
    if (e.event_type === 'message' && e.role === 'user') keys.push(`m${e.seq}`);
    if (e.event_type === 'thinking') keys.push(`t${e.seq}`);
    if (e.event_type === 'message' && e.role === 'assistant') e.content.forEach((b, i) => b.type === 'text' ? keys.push(`m${e.seq}.${i}`) : b.type === 'tool_use' ? keys.push(`c${b.id}`) : 0);
    if (e.event_type === 'status' && ['finished', 'stopped', 'failed'].includes(e.to)) keys.push(`s${e.seq}`);
  }
  return keys;
};

test('first run: a wrong token is told, a right one enters, a link enters and leaves no token in the address', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await page.goto(fake.url);
  await page.fill('#token', 'bt_wrong');
  await page.click('button[type=submit]');
  await page.waitForSelector('#token-wrong');
  await page.fill('#token', fake.token);
  await page.keyboard.press('Enter');
  await page.waitForSelector('.side [data-link="open"]');
  await page.click('[aria-label="Theme"]');
  await page.click('text=Forget token');
  await page.waitForSelector('.connect');
  await page.goto('about:blank');
  await page.goto(`${fake.url}/#token=${fake.token}`);
  await page.waitForSelector('.side');
  assert.equal(await page.evaluate(() => location.href), `${fake.url}/`);
  assert.deepEqual(faults, []);
});

test('the demo: from the welcome to the answer, seen live, with the desktop beside it', LIMIT, async (t) => {
  const empty = await startFake({ speed: 4 });
  t.after(() => empty.close());
  const { page, faults } = await open(browser, t);
  await enter(page, '/', empty);
  await page.waitForSelector('.hero');
  empty.hold();
  await page.getByRole('button', { name: 'Run the demo' }).first().click();
  await page.waitForURL(/\/s\//);
  await page.waitForSelector('.desk-live[data-live="true"]');
  await page.waitForSelector('.desk-rfb canvas');
  await page.waitForSelector('.strip:has-text("Scripted demo, not a model")');
  await page.waitForSelector('.caret, .ghost, .think[aria-busy]');
  // The desktop shows pixels of the frame, not an empty canvas.
  await page.waitForFunction(() => {
    const c = document.querySelector('.desk-rfb canvas');
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    const seen = new Set();
    for (let i = 0; i < d.length; i += 4 * 997) seen.add(`${d[i]},${d[i + 1]},${d[i + 2]}`);
    return seen.size > 2;
  });
  empty.go();
  await page.waitForSelector('.tool[data-tool="computer"] .mark', { state: 'attached' });
  await page.waitForSelector('.s-head .status[data-status="finished"]', { timeout: 30_000 });
  await page.waitForSelector('.prose td:has-text("Albatros Charter")');
  const s = [...empty.sessions.values()][0];
  assert.deepEqual(await shownSeqs(page), wantedKeys(s));
  assert.equal(await page.$eval('.prose td[align="right"]', (e) => getComputedStyle(e).textAlign), 'right');
  await page.waitForSelector('.desk-frame.past img');
  await page.click('.tool-after a');
  await page.waitForSelector('.preview h2:has-text("unpaid-orders.md")');
  await page.waitForSelector('.preview .prose h1');
  assert.deepEqual(faults, []);
});

test('nothing lost or doubled: the server goes away in mid-session, twice, and comes back', LIMIT, async (t) => {
  const { page } = await open(browser, t);
  const { s, done } = fake.create({ session_name: 'Resume', message: 'Go on' });
  await enter(page, `/s/${s.session.session_id}`);
  for (let n = 0; n < 2; n++) {
    await page.waitForFunction((k) => document.querySelectorAll('.tool').length > k, 1 + 3 * n);
    await fake.suspend();
    await page.waitForSelector('.light[data-link="waiting"]');
    // The agent goes on while nobody can see it.
    const at = s.events.length;
    await new Promise((r) => {
      const look = () => (s.events.length > at + 3 || !s.run ? r() : setTimeout(look, 20));
      look();
    });
    await fake.resume();
    await page.waitForSelector('.light[data-link="open"]');
  }
  await done;
  await page.waitForSelector('.s-head .status[data-status="finished"]');
  await page.waitForFunction((n) => document.querySelectorAll('.item').length >= n, wantedKeys(s).length);
  assert.deepEqual(await shownSeqs(page), wantedKeys(s));
});

test('stop, message while running, message again after the end', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  fake.hold();
  t.after(() => fake.go());
  const { s } = fake.create({ session_name: 'Stop me', message: 'Begin' });
  await enter(page, `/s/${s.session.session_id}`);
  await page.waitForSelector('.s-head .status[data-status="running"]');
  await page.fill('.composer textarea', 'Look at order 1044, too');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.said:has-text("Look at order 1044")');
  await page.waitForFunction(() => document.querySelectorAll('.said-meta').length === 0);
  assert.equal(await page.$$eval('.said', (e) => e.filter((x) => x.textContent.includes('1044')).length), 1);
  await page.getByRole('button', { name: 'Stop', exact: true }).click();
  await page.waitForSelector('.s-head .status[data-status="stopped"]');
  await page.waitForSelector('.note-line:has-text("Session stopped")');
  await page.waitForSelector('.desk-frame.past');
  await page.fill('.composer textarea', 'Go on');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('please');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.s-head .status[data-status="running"]');
  await page.waitForSelector('.desk-live[data-live="true"]');
  await page.getByRole('button', { name: 'Stop', exact: true }).click();
  await page.waitForSelector('.s-head .status[data-status="stopped"]');
  assert.deepEqual(faults, []);
});

test('a message that could not be sent stays and can be sent again', LIMIT, async (t) => {
  const { page } = await open(browser, t);
  const { s, done } = fake.create({ session_name: 'Offline', message: 'Begin' }, { fast: true });
  await done;
  await enter(page, `/s/${s.session.session_id}`);
  await page.waitForSelector('.note-line');
  await fake.suspend();
  await page.fill('.composer textarea', 'Are you there?');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.said.failed');
  await page.waitForSelector('.toast.error');
  await fake.resume();
  await page.click('text=Send again');
  await page.waitForSelector('.item .said:has-text("Are you there?")');
  assert.equal(await page.$$eval('.said', (e) => e.filter((x) => x.textContent.includes('there?')).length), 1);
});

test('sessions: live list, search, filter, rename, delete; new session by keyboard with a file', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page);
  await page.waitForSelector('.card');
  fake.hold();
  const { s } = fake.create({ session_name: 'Appears by itself', message: 'x' });
  await page.waitForSelector('.card:has-text("Appears by itself") .status[data-status="running"]');
  fake.go();
  await page.keyboard.press('/');
  await page.keyboard.type('appears');
  await page.waitForFunction(() => document.querySelectorAll('.card').length === 1);
  await page.click('.card');
  await page.fill('.side [type=search]', '');
  await page.click('.side-filters button:has-text("Failed")');
  await page.waitForFunction(() => [...document.querySelectorAll('.card .status')].every((e) => e.dataset.status === 'failed'));
  await page.click('.side-filters button:has-text("All")');
  await page.click('.s-title button');
  await page.fill('.s-title input', 'Renamed');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.card:has-text("Renamed")');
  await page.click('.s-head [aria-label="More actions"]');
  await page.click('.s-head >> text=Delete session');
  await page.click('.dialog .solid-danger');
  await page.waitForFunction(() => location.pathname === '/');
  await page.waitForFunction(() => !document.body.textContent.includes('Renamed'));
  assert.equal(fake.sessions.has(s.session.session_id), false);

  // A machine is offered when a worker makes them.
  await Promise.all([page.waitForResponse((r) => r.url().endsWith('/workers')), page.locator('body').press('n')]);
  await page.waitForSelector('.dialog >> text=Headless');
  assert.equal(await page.locator('.dialog >> text=Virtual machine').count(), 0);
  await page.keyboard.press('Escape');
  await page.waitForSelector('.dialog', { state: 'detached' });
  fake.more.workers[0].kinds.push('vm');
  await page.locator('body').press('n');
  await page.waitForSelector('.dialog >> text=Virtual machine');
  await page.fill('#ns-message', 'Count the lines of data.txt');
  await page.click('.dialog >> text=Headless');
  await page.setInputFiles('.dialog input[type=file]', { name: 'data.txt', mimeType: 'text/plain', buffer: Buffer.from('1\n2\n') });
  await page.waitForSelector('.files li');
  await page.focus('#ns-message');
  await page.keyboard.press('Control+Enter');
  await page.waitForURL(/\/s\//);
  await page.waitForSelector('.said:has-text("Count the lines")');
  assert.equal(await page.$('.desk'), null);
  assert.deepEqual(faults, []);
});

test('documents: upload with progress, drop, tags, filter, preview of each kind, delete', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page, '/d');
  await page.waitForSelector('.doc-table');
  await page.setInputFiles('[data-upload]', [
    { name: 'notes.md', mimeType: 'text/markdown', buffer: Buffer.from('# Title\n\n<script>window.hacked=1</script><img src=x onerror="window.hacked=1">\n\n[x](javascript:window.hacked=1)') },
    { name: 'page.html', mimeType: 'text/html', buffer: Buffer.from('<script>window.hacked=1</script>') },
    { name: 'draw.svg', mimeType: 'image/svg+xml', buffer: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" onload="window.hacked=1"/>') },
    { name: 'table.csv', mimeType: 'text/csv', buffer: Buffer.from('name,n\n"<img src=x onerror=window.hacked=1>",2\n') },
    { name: 'bad.json', mimeType: 'application/json', buffer: Buffer.from('{nope') },
    { name: 'blob.bin', mimeType: 'application/octet-stream', buffer: Buffer.alloc(300_000) },
  ]);
  await page.waitForSelector('.uploads li');
  for (const [name, inside] of [['notes.md', '.prose h1'], ['page.html', '.source'], ['draw.svg', '.source'], ['table.csv', '.csv td'], ['bad.json', '.source'], ['blob.bin', '.blank']]) {
    await page.click(`.doc-name:has-text("${name}")`);
    await page.waitForSelector(`.preview h2:has-text("${name}")`);
    await page.waitForSelector(`.preview-body ${inside}`);
  }
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  await page.click('.preview >> text=Add tag');
  await page.fill('.tag-edit input', 'no_good');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.tag-edit .wrong');
  await page.fill('.tag-edit input', 'fresh-tag');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.tag-edit .chip:has-text("fresh-tag")');
  await page.keyboard.press('Escape');
  await page.fill('.docs-tags [role=combobox]', 'fresh');
  await page.click('.docs-tags [role=option]:has-text("fresh-tag")');
  await page.waitForSelector('.docs-tags .chip:has-text("fresh-tag")');
  await page.waitForFunction(() => document.querySelectorAll('.doc-table tbody tr').length === 1);
  await page.click('.preview [aria-label="Delete document"]');
  await page.click('.dialog .solid-danger');
  await page.waitForSelector('.docs-list .blank');
  await page.click('.blank >> text=Clear filters');
  await page.fill('.docs-head [type=search]', 'terms');
  await page.waitForFunction(() => document.querySelectorAll('.hits li').length >= 1);
  await page.fill('.docs-head [type=search]', '');
  const transfer = await page.evaluateHandle(() => {
    const d = new DataTransfer();
    d.items.add(new File(['dropped'], 'dropped.txt', { type: 'text/plain' }));
    return d;
  });
  await page.dispatchEvent('.docs', 'dragenter', { dataTransfer: transfer });
  await page.waitForSelector('.drop');
  await page.dispatchEvent('.docs', 'drop', { dataTransfer: transfer });
  await page.waitForSelector('.doc-name:has-text("dropped.txt")');
  await page.click('.doc-name:has-text("orders.csv")');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('.preview [aria-label="Download"]')]);
  assert.equal(download.suggestedFilename(), 'orders.csv');
  assert.deepEqual(faults, []);
});

test('a stored script in any field never runs', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
  const s = fake.newSession({ session_name: evil, agent_name: evil, model: evil });
  fake.emit(s, 'message', { role: 'user', content: evil, message_id: evil });
  fake.emit(s, 'thinking', { content: evil });
  fake.emit(s, 'message', { role: 'assistant', content: [{ type: 'text', text: `${evil}\n\n[a](javascript:window.hacked=1) ![b](javascript:window.hacked=1) <a href="javascript:window.hacked=1">c</a>` }] });
  for (const [i, [name, input]] of [['bash', { command: evil }], ['str_replace_based_edit_tool', { command: 'create', path: evil, file_text: evil }], [evil, { [evil]: evil }], ['computer', { action: evil }]].entries()) {
    fake.emit(s, 'pre_tool', { tool_call_id: `x${i}`, tool_name: name, tool_input: input });
    fake.emit(s, 'post_tool', { tool_call_id: `x${i}`, tool_name: name, tool_output: [{ type: 'text', text: evil }], error: i % 2 ? evil : null });
  }
  fake.emit(s, 'error', { code: evil, message: evil });
  fake.setStatus(s, 'failed', evil);
  await enter(page, `/s/${s.session.session_id}`);
  await page.waitForSelector('.fault');
  for (const b of await page.$$('.think > button, .tool-head[aria-expanded="false"]')) await b.click();
  await page.waitForSelector('.think-text');
  for (const a of await page.$$('.prose a')) assert.doesNotMatch((await a.getAttribute('href')) ?? '', /^javascript:/i);
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.equal(await page.$('.item img[onerror], .item script'), null);
  assert.deepEqual(faults, []);
  fake.sessions.delete(s.session.session_id);
});

test('a person who scrolls up stays there; Latest comes back', LIMIT, async (t) => {
  const { page } = await open(browser, t);
  const { s, done } = fake.create({ session_name: 'Scroll', message: 'Begin' });
  await enter(page, `/s/${s.session.session_id}`);
  await page.waitForFunction(() => document.querySelectorAll('.tool').length > 3);
  await page.waitForFunction(() => { const f = document.querySelector('.flow'); return f.scrollHeight - f.scrollTop - f.clientHeight < 5; });
  await page.hover('.flow');
  await page.mouse.wheel(0, -600);
  await page.waitForSelector('.to-end');
  const at = await page.$eval('.flow', (f) => f.scrollTop);
  await page.waitForFunction(() => document.querySelectorAll('.tool').length > 6);
  assert.ok(Math.abs((await page.$eval('.flow', (f) => f.scrollTop)) - at) < 30);
  await page.click('.to-end');
  await done;
  await page.waitForSelector('.s-head .status[data-status="finished"]');
  await page.waitForFunction(() => {
    const f = document.querySelector('.flow');
    return f.scrollHeight - f.scrollTop - f.clientHeight < 5;
  });
});

test('lightbox: the click point, through all screenshots by key, closed by Escape', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const { s, done } = fake.create({ session_name: 'Shots', message: 'Begin' }, { fast: true });
  await done;
  await enter(page, `/s/${s.session.session_id}`);
  await page.locator('.tool:has-text("Clicked at 148, 157") .shot').click();
  await page.waitForSelector('.lightbox[open] img[src]');
  const box = await page.$eval('.lightbox .mark', (e) => [e.style.left, e.style.top]);
  assert.deepEqual(box, ['14.4531%', '20.4427%']);
  await page.keyboard.press('ArrowRight');
  await page.waitForSelector('.lightbox b:has-text("Scrolled")');
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => !document.querySelector('.lightbox[open]'));
  assert.deepEqual(faults, []);
});

test('phone: drawer, desktop above the conversation, nothing wider than the screen', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t, { viewport: PHONE });
  await enter(page);
  await page.click('[aria-label="Open menu"]');
  await page.click('.side.open .card >> nth=0');
  await page.waitForSelector('.composer textarea');
  await page.waitForFunction(() => !document.querySelector('.side.open'));
  const [desk, chat] = await page.evaluate(() => ['.desk', '.chat'].map((q) => document.querySelector(q)?.getBoundingClientRect().top ?? 0));
  assert.ok(desk < chat);
  for (const to of ['/', '/d']) {
    await page.goto(fake.url + to);
    await page.waitForSelector('.topbar');
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), to);
  }
  assert.deepEqual(faults, []);
});

for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
  for (const colorScheme of ['light', 'dark']) {
    test(`axe finds nothing serious, ${size} ${colorScheme}; screenshots are kept`, LIMIT, async (t) => {
      const { page, faults } = await open(browser, t, { viewport, colorScheme, reducedMotion: 'reduce' });
      const { s, done } = fake.create({ session_name: 'Demo: unpaid orders', message: 'Who still owes us money?' }, { fast: true });
      await done;
      const found = [];
      const look = async (name) => {
        await page.screenshot({ path: path.join(SHOTS, `${name}-${size}-${colorScheme}.png`) });
        found.push(...(await axeFindings(page)).map((f) => `${name}: ${f}`));
      };
      await page.goto(fake.url);
      await page.waitForSelector('.connect');
      await look('connect');
      await enter(page);
      await page.waitForSelector('.rows');
      await look('home');
      await page.goto(`${fake.url}/s/${s.session.session_id}`);
      await page.waitForSelector('.note-line');
      if (size === 'wide') await page.waitForSelector('.desk-frame.past img');
      await look('session');
      await page.goto(`${fake.url}/d`);
      await page.waitForSelector('.doc-table');
      await look('documents');
      await page.click('.doc-name:has-text("unpaid-orders.md") >> nth=0');
      await page.waitForSelector('.preview .prose');
      await look('preview');
      await page.goto(fake.url);
      await page.waitForSelector('.rows');
      await page.locator('body').press('n');
      await page.waitForSelector('.dialog[open]');
      await look('new-session');
      await page.keyboard.press('Escape');
      await page.keyboard.press('Control+k');
      await page.waitForSelector('.palette [aria-selected="true"]');
      await look('palette');
      await page.goto(`${fake.url}/u`);
      await page.waitForSelector('.drop-zone');
      await look('upload');
      await page.goto(`${fake.url}/nothing/here`);
      await page.waitForSelector('.blank >> text=There is no such page');
      await look('missing');
      const empty = await startFake({ speed: 4 });
      t.after(() => empty.close());
      await enter(page, '/', empty);
      await page.waitForSelector('.hero');
      await look('welcome');
      if (size === 'phone') {
        await page.click('[aria-label="Open menu"]');
        await page.waitForSelector('.side.open');
        await look('drawer');
      }
      assert.deepEqual(found, []);
      assert.deepEqual(faults, []);
    });
  }
}
