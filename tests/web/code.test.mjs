// What is shown of code, settings, and the phone, in a real browser against the FAKE gateway.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enter, LIMIT, looks, open, stage } from './browser.mjs';

const { browser, fake } = await stage({ seed: true, speed: 20 });

const CODE = '```python\ndef total(rows):\n    return sum(r["open"] for r in rows)  # <script>window.hacked=1</script>\n```\n\n<span class="btn">not ours</span> and\n\n```nonsense\n<b>plain</b>\n```';

test('code in colours: in the conversation, in edits, in commands, in documents; copied as it is; it cannot act', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const before = [];
  page.on('request', (r) => /highlighter/.test(r.url()) && before.push(r.url()));
  await enter(page, fake);
  await page.waitForSelector('.card');
  assert.deepEqual(before, [], 'the highlighter is no part of the first load');
  const s = fake.newSession({ session_name: 'Code', project_dir: '/home/ann/ledger' });
  fake.emit(s, 'message', { role: 'assistant', content: [{ type: 'text', text: CODE }] });
  fake.emit(s, 'pre_tool', { tool_call_id: 'e', tool_name: 'str_replace_based_edit_tool', tool_input: { command: 'str_replace', path: '/home/agent/a.py', old_str: 'if a == 1:\n    pass', new_str: 'if a != 1:\n    pass' } });
  fake.emit(s, 'post_tool', { tool_call_id: 'e', tool_name: 'str_replace_based_edit_tool', tool_output: [{ type: 'text', text: 'ok' }] });
  fake.emit(s, 'pre_tool', { tool_call_id: 'b', tool_name: 'bash', tool_input: { command: 'for f in *; do echo "$f"; done' } });
  fake.emit(s, 'post_tool', { tool_call_id: 'b', tool_name: 'bash', tool_output: [{ type: 'text', text: 'x' }], exit_code: 0 });
  fake.setStatus(s, 'finished');
  t.after(() => fake.sessions.delete(s.session.session_id));
  await page.click('.card:has-text("Code")');
  await page.waitForSelector('.prose .hljs-keyword:has-text("def")');
  assert.equal(await page.locator('.prose pre >> nth=0').locator('code').textContent(), 'def total(rows):\n    return sum(r["open"] for r in rows)  # <script>window.hacked=1</script>');
  assert.equal(await page.$('.prose .btn'), null);
  assert.equal(await page.locator('.prose pre >> nth=1').locator('code').textContent(), '<b>plain</b>');
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  await page.waitForSelector('.diff-l[data-sign="-"] .hljs-keyword:has-text("if")');
  assert.deepEqual(await page.$$eval('.diff-l', (l) => l.map((e) => e.dataset.sign + e.querySelector('span').textContent)), ['-if a == 1:', '+if a != 1:', '     pass']);
  await page.waitForSelector('.term .hljs-keyword:has-text("for")');
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: fake.url });
  await page.locator('.prose pre >> nth=0').hover();
  await page.locator('.copy-code >> nth=0').click();
  await page.waitForSelector('.toast.good');
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^def total\(rows\):\n {4}return/);
  // The card: folder with its path, the id to copy.
  assert.equal(await page.getAttribute('[data-session] .folder', 'title'), '/home/ann/ledger');
  await page.hover('.card:has-text("Code")');
  await page.click('.card-copy button >> nth=0');
  await page.waitForFunction((id) => navigator.clipboard.readText().then((v) => v === id), s.session.session_id);
  await page.goto(`${fake.url}/d`);
  await page.setInputFiles('[data-upload]', { name: 'walk.py', mimeType: 'text/x-python', buffer: Buffer.from('import os\n# <img src=x onerror="window.hacked=1">\n') });
  await page.click('.doc-name:has-text("walk.py")');
  await page.waitForSelector('.source .hljs-keyword:has-text("import")');
  await page.click('.doc-name:has-text("terms.json")');
  await page.waitForSelector('.source .hljs-attr');
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.deepEqual(faults, []);
});

test('looks: a session with code, settings', LIMIT, async (t) => {
  const s = fake.newSession({ session_name: 'Code' });
  fake.emit(s, 'message', { role: 'assistant', content: [{ type: 'text', text: CODE }] });
  fake.emit(s, 'pre_tool', { tool_call_id: 'e', tool_name: 'str_replace_based_edit_tool', tool_input: { command: 'str_replace', path: '/home/agent/a.py', old_str: 'if a == 1:  # one\n    x = "a"', new_str: 'if a != 2:  # two\n    x = f"b{1}"' } });
  fake.emit(s, 'post_tool', { tool_call_id: 'e', tool_name: 'str_replace_based_edit_tool', tool_output: [{ type: 'text', text: 'ok' }] });
  fake.setStatus(s, 'finished');
  t.after(() => fake.sessions.delete(s.session.session_id));
  await looks(browser, t, 'code', fake, `/s/${s.session.session_id}`, (page) => page.waitForSelector('.diff .hljs-comment'));
  await looks(browser, t, 'settings', fake, '/settings', (page) => page.waitForSelector('.settings-table tbody tr'));
});

test('phone: desktop above, nothing wider than the screen, whatever can be pressed is 44 px', LIMIT, async (t) => {
  const { page } = await open(browser, t, { viewport: { width: 390, height: 844 } });
  const s = [...fake.sessions.values()].find((x) => x.session.status === 'finished' && x.session.kind === 'desktop').session.session_id;
  await enter(page, fake);
  const ready = { '/': '.rows a', [`/s/${s}`]: '.desk-frame.past', [`/s/${s}/timeline`]: '.event', [`/s/${s}/files`]: '.slot-files .blank', '/d': '.doc-name', '/u': '.drop-zone', '/a': '.agent-name', '/a/ledger': '.prompt-box[data-editor="open"]', '/c': '.usage-table td', '/w': '.worker', '/settings': '.settings-table td' };
  for (const [to, selector] of Object.entries(ready)) {
    await page.goto(fake.url + to);
    await page.waitForSelector(selector);
    const small = await page.evaluate(() => {
      const out = [];
      for (const e of document.querySelectorAll('a[href], button, input, select, textarea, summary')) {
        const grown = getComputedStyle(e, '::before');
        const extra = grown.content !== 'none' && grown.position === 'absolute' ? -2 * Number.parseFloat(grown.top) : 0;
        const r = (e.closest('label') ?? e).getBoundingClientRect();
        if (!r.width || !r.height || getComputedStyle(e).visibility === 'hidden' || e.closest('.prose, .side:not(.open), .monaco-editor') || e.matches('.skip')) continue;
        if (r.height + extra < 43.5 || r.width + extra < 43.5) out.push(`${e.tagName}.${e.className} ${e.textContent.slice(0, 20)} ${r.width}x${r.height}`);
      }
      return out;
    });
    assert.deepEqual(small, [], to);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, to);
  }
  await page.goto(`${fake.url}/s/${s}`);
  await page.waitForSelector('.desk-frame.past');
  const [desk, chat] = await page.evaluate(() => ['.desk', '.chat'].map((x) => document.querySelector(x).getBoundingClientRect()).map((r) => [r.top, r.bottom]));
  assert.ok(desk[1] <= chat[0] + 1, `${desk} above ${chat}`);
});
