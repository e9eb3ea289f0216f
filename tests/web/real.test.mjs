// The page against a real Berth whose model plays scripts: the requests the page makes are those the daemons take. Skipped without BERTH_URL and BERTH_TOKEN.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { axeFindings, berth, open, PHONE, SHOTS, WIDE } from './browser.mjs';

const { browser, options, url, token } = await berth(300_000);
const { BERTH_MODEL_KEY: key } = process.env;
const WAIT = { timeout: 60_000 };

const call = async (method, to, body) => {
  const r = await fetch(url + to, { method, headers: { Authorization: `Bearer ${token}`, ...(body ? { 'Content-Type': 'application/json' } : {}) }, body: body ? JSON.stringify(body) : undefined });
  const text = await r.text();
  assert.ok(r.ok, `${method} ${to}: ${r.status} ${text}`);
  return text ? JSON.parse(text) : null;
};
const start = (turns, more = {}) => call('POST', '/sessions', { kind: 'headless', message: `SCRIPT: ${JSON.stringify(turns)}`, ...more });
const enter = async (page, to = '/') => {
  await page.goto(`${url}/#token=${token}`);
  await page.waitForSelector('.light[data-link="open"]', { state: 'attached', ...WAIT });
  if (to !== '/') await page.goto(url + to);
};
const shows = (page, status) => page.waitForSelector(`.s-head .status[data-status="${status}"]`, { state: 'attached', ...WAIT });

test('an agent: made, told at the field what the server takes not, changed, used', options, async (t) => {
  const { page, faults } = await open(browser, t);
  const name = `walker-${Date.now()}`;
  await enter(page, '/a/+');
  await page.fill('#agent-name', name);
  await page.waitForSelector('.hint.good');
  await page.fill('#agent-servers', '[{ "name": "both", ');
  await page.waitForSelector('#agent-servers-wrong:has-text("no JSON")');
  await page.fill('#agent-servers', '[{ "name": "both", "url": "https://mcp.example.com/mcp", "command": ["mcp"] }]');
  await page.fill('#agent-schema', '{ "type": "object", "properties": { "total": { "type": "number" } } }');
  await page.click('text=Make agent');
  await page.waitForSelector('#agent-servers-wrong:has-text("MCP server")');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'agent-servers');
  await page.fill('#agent-servers', '[{ "name": "git", "command": ["uvx", "mcp-server-git"] }]');
  await page.fill('#agent-skills', '[{ "tag": "no good" }]');
  await page.click('text=Make agent');
  await page.waitForSelector('#agent-skills-wrong');
  await page.fill('#agent-skills', '[{ "tag": "house-style" }]');
  await page.click('text=Make agent');
  await page.waitForURL(new RegExp(`/a/${name}$`));
  let agent = await call('GET', `/agents/${name}`);
  assert.deepEqual([agent.mcp_servers[0].command, agent.skills, agent.output_schema.properties], [['uvx', 'mcp-server-git'], [{ tag: 'house-style' }], { total: { type: 'number' } }]);
  await page.fill('#agent-skills', '');
  await page.fill('#agent-schema', '');
  await page.fill('#agent-cost_usd', '1.5');
  await page.selectOption('select[aria-label^="Shell"]', 'ask');
  await page.click('text=Save changes');
  await page.waitForSelector('.agent-head:has-text("v2")');
  agent = await call('GET', `/agents/${name}`);
  assert.deepEqual([agent.mcp_servers.length, agent.skills ?? [], agent.output_schema, agent.budget.cost_usd, agent.approval.bash], [1, [], null, 1.5, 'ask']);
  await page.click('[aria-label="Use this version: v1"]');
  await page.waitForFunction(() => document.querySelector('#agent-skills').value.includes('house-style'));
  assert.deepEqual(await axeFindings(page), []);
  await page.screenshot({ path: path.join(SHOTS, 'real-agent.png') });
  assert.deepEqual(faults.filter((f) => !/status of 400/.test(f)), []);
});

test('approval and budget of a session, its files and its timeline', options, async (t) => {
  const { page, faults } = await open(browser, t);
  const name = `asks-${Date.now()}`;
  await call('POST', '/agents', { name, approval: { bash: 'ask' } });
  const { session_id: id } = await start([{ tools: [['bash', { command: 'mkdir -p shop && echo 1,2 > shop/orders.csv && echo allowed' }]] }, { text: 'Stored.\n\n```sql\nSELECT 1;\n```' }], { agent_name: name, session_name: 'Asks first' });
  await enter(page, `/s/${id}`);
  await shows(page, 'waiting');
  await page.fill('.approval input', 'this once');
  await page.click('.approval >> text=Allow once');
  await page.waitForSelector('.note-line[data-decision="allowed"]:has-text("this once")', WAIT);
  await shows(page, 'idle');
  await page.waitForSelector('.term:has-text("allowed")');
  await page.waitForSelector('.prose .hljs-keyword:has-text("SELECT")');
  // PATCH of the budget, in the shape the coordinator takes.
  await page.click('.s-head [aria-label="More actions"]');
  await page.click('.s-head >> text=Budget');
  await page.fill('#budget-turns', '40');
  await page.fill('#budget-cost_usd', '2.5');
  // The dialog does not wait for the answer.
  await Promise.all([page.waitForResponse((r) => r.request().method() === 'PATCH' && r.ok()), page.click('.dialog [type=submit]')]);
  await page.waitForSelector('.dialog', { state: 'detached' });
  const { budget } = await call('GET', `/sessions/${id}`);
  assert.deepEqual([budget.turns, budget.cost_usd], [40, 2.5]);
  // The files of the slot: the empty path is its home.
  await page.click('.s-tabs >> text=Files');
  await page.click('[data-file="shop"] .file-name');
  await page.waitForSelector('[data-file="orders.csv"]:has-text("4 B")');
  await page.setInputFiles('[data-slot-upload]', { name: 'a b#c.txt', mimeType: 'text/plain', buffer: Buffer.from('hello') });
  await page.waitForSelector('[data-file="a b#c.txt"]:has-text("5 B")');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-file="a b#c.txt"] .file-name')]);
  assert.equal(download.suggestedFilename(), 'a b#c.txt');
  await page.click('[aria-label="Delete a b#c.txt"]');
  await page.click('.dialog .solid-danger');
  await page.waitForSelector('[data-file="a b#c.txt"]', { state: 'detached' });
  await page.click('.s-tabs >> text=Timeline');
  await page.waitForSelector('.event[data-type="approval_decided"]');
  const seqs = await page.$$eval('.event', (l) => l.map((e) => Number(e.dataset.seq)));
  assert.deepEqual(seqs, seqs.map((_, i) => seqs[0] + i));
  await page.click('.event[data-type="pre_tool"] .event-line');
  await page.waitForSelector('.event-json:has-text("mkdir -p shop")');
  assert.deepEqual(faults, []);
});

test('pause, a message while it runs, interrupt, fork; what is refused is told and taken back', options, async (t) => {
  const { page } = await open(browser, t);
  const { session_id: id } = await start([{ tools: [['bash', { command: 'sleep 300' }]] }, { text: 'never' }], { session_name: 'Held' });
  await enter(page, `/s/${id}`);
  await shows(page, 'running');
  await page.waitForSelector('.tool[data-state="running"]', WAIT);
  await page.click('.s-head [aria-label^="Interrupt"]');
  await shows(page, 'idle');
  await page.fill('.composer textarea', 'SCRIPT: [{"text": "Here again."}]');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.prose:has-text("Here again.")', WAIT);
  await page.click('.s-head [aria-label="More actions"]');
  await page.click('.s-head >> text=Fork');
  await page.waitForSelector('.s-title:has-text("Held (fork)")', WAIT);
  await page.waitForSelector('.prose:has-text("Here again.")', WAIT);
  // Somebody else ends it; the page, which has not heard, is refused and says so.
  const fork = page.url().split('/').pop();
  await page.route(`**/sessions/${fork}/pause`, (r) => r.fulfill({ status: 409, contentType: 'application/json', body: JSON.stringify({ error: { code: 'conflict', message: 'The session is not running.' } }) }));
  const before = await page.getAttribute('.s-head .status', 'data-status');
  const pause = await page.$('.s-head [aria-label^="Pause"]');
  if (pause) {
    await pause.click();
    await page.waitForSelector('.toast.error:has-text("not running")');
    await shows(page, before);
  }
});

test('a model is tried from the page, where model calls are made', { ...options, skip: options.skip || (key ? false : 'BERTH_MODEL_KEY is not set') }, async (t) => {
  const { page } = await open(browser, t);
  await enter(page);
  await page.keyboard.press('Control+k');
  await page.fill('.palette input', 'connect a model');
  await page.waitForSelector('#palette-connect[aria-selected=true]');
  await page.keyboard.press('Enter');
  await page.fill('#cm-key', 'not-it');
  await page.click('.dialog button[type=submit]');
  await page.waitForSelector('.verdict.bad[data-code="key_refused"]', WAIT);
  await page.fill('#cm-key', key);
  await page.click('.dialog button[type=submit]');
  await page.waitForSelector('.verdict.good', WAIT);
  assert.match(await page.textContent('.connect-steps pre'), /ANTHROPIC_API_KEY/);
  assert.ok(!(await page.content()).includes(key));
});

// The other two of both themes and sizes: with the fake's data, in looks() of the other files.
test('every view, wide and light, narrow and dark: axe finds nothing serious, nothing is wider than the screen', options, async (t) => {
  const { sessions } = await call('GET', '/sessions?limit=1');
  const id = sessions[0].session_id;
  const views = { home: ['/', '.rows a, .tile'], session: [`/s/${id}`, '.item'], timeline: [`/s/${id}/timeline`, '.event'], files: [`/s/${id}/files`, '.slot-files'], documents: ['/d', '.docs'], upload: ['/u', '.drop-zone'], agents: ['/a', '.agent-name'], usage: ['/c', '.figures'], health: ['/w', '.worker'], settings: ['/settings', '.settings-table td'] };
  for (const [viewport, colorScheme] of [[WIDE, 'light'], [PHONE, 'dark']]) {
    const { page, faults } = await open(browser, t, { viewport, colorScheme, reducedMotion: 'reduce' });
    await enter(page);
    for (const [name, [to, ready]] of Object.entries(views)) {
      await page.goto(url + to);
      await page.waitForSelector(ready, WAIT);
      const where = `${name}-${viewport === WIDE ? 'wide' : 'phone'}-${colorScheme}`;
      await page.screenshot({ path: path.join(SHOTS, `real-${where}.png`) });
      assert.deepEqual(await axeFindings(page), [], where);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, where);
    }
    assert.deepEqual(faults, []);
    await page.context().close();
  }
});
