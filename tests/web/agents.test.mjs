// Agents, usage and health in a real browser against the FAKE gateway.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enter, LIMIT, looks, open, stage } from './browser.mjs';

const { browser, fake } = await stage({ seed: true, speed: 4, demo: false });
const agent = (name) => fake.more.agents.get(name).a;

test('agents: made with a prompt in Monaco, tools, network; a taken name is told; changed; an old version back; off and on', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page, fake);
  // Nothing of the editor is loaded before a prompt is edited.
  const loaded = [];
  page.on('request', (r) => /editor/.test(r.url()) && loaded.push(r.url()));
  await page.click('.side-nav >> text=Agents');
  await page.waitForSelector('[data-agent="ledger"]');
  assert.deepEqual(loaded, []);
  await page.click('text=New agent');
  await page.waitForSelector('.prompt-box[data-editor="open"] .view-line');
  assert.ok(loaded.some((u) => u.endsWith('.css')));
  await page.fill('#agent-name', 'ledger');
  await page.waitForSelector('#agent-name-wrong:has-text("There is an agent")');
  await page.fill('#agent-name', 'no good');
  await page.waitForSelector('#agent-name-wrong:has-text("hyphens")');
  await page.fill('#agent-name', 'scout');
  await page.waitForSelector('.hint.good');
  await page.click('.prompt-host');
  await page.keyboard.type('# Scout\n\nLook **before** you click.');
  await page.waitForSelector('.prompt-host .view-line:has-text("Scout")');
  await page.uncheck('.panel .check >> nth=0');
  for (const tool of ['session_start', 'session_wait']) await page.uncheck(`[data-tool="${tool}"]`);
  await page.selectOption('[aria-label="Shell: Ask first?"]', 'ask');
  await page.click('.choice:has-text("Only these")');
  await page.click('text=Make agent');
  await page.waitForSelector('#agent-allow-wrong');
  await page.fill('#agent-allow', 'https://example.com/');
  await page.waitForSelector('#agent-allow-wrong:has-text("not a host")');
  await page.fill('#agent-allow', 'example.com\n*.debian.org');
  await page.fill('#agent-cost_usd', '1.5');
  await page.click('text=Make agent');
  await page.waitForURL(/\/a\/scout$/);
  await page.waitForSelector('.versions .chip');
  const made = agent('scout');
  assert.equal(made.system_prompt, '# Scout\n\nLook **before** you click.');
  assert.equal(made.tools.includes('session_start'), false);
  assert.equal(made.tools.includes('bash'), true);
  assert.deepEqual([made.approval, made.network, made.budget], [{ bash: 'ask' }, { mode: 'allow', allow: ['example.com', '*.debian.org'] }, { cost_usd: 1.5 }]);

  await page.fill('#agent-description', 'Looks around');
  await page.waitForSelector('.unsaved');
  fake.refuse(true);
  await page.keyboard.press('Control+s');
  await page.waitForSelector('.toast.error');
  assert.equal(await page.inputValue('#agent-description'), 'Looks around');
  fake.refuse(false);
  await page.click('text=Save changes');
  await page.waitForSelector('.agent-head:has-text("v2")');
  assert.equal(agent('scout').description, 'Looks around');
  await page.click('[aria-label="Use this version: v1"]');
  await page.waitForFunction(() => document.querySelector('#agent-description').value === '');
  await page.click('text=Save changes');
  await page.waitForSelector('.agent-head:has-text("v3")');
  assert.equal(agent('scout').description, null);

  await page.click('.agent-head [aria-label="Agents"]');
  fake.refuse(true);
  await page.click('[data-agent="scout"] [role=switch]');
  await page.waitForSelector('.toast.error');
  await page.waitForSelector('[data-agent="scout"] [aria-checked="true"]');
  fake.refuse(false);
  await page.click('[data-agent="scout"] [role=switch]');
  await page.waitForSelector('[data-agent="scout"] [aria-checked="false"]');
  await page.waitForFunction(() => document.querySelector('[data-agent="scout"].off'));
  assert.equal(agent('scout').status, 'inactive');
  await page.click('[data-agent="ledger"] a');
  await page.getByRole('button', { name: 'Start a session' }).click();
  assert.equal(await page.inputValue('#ns-agent'), 'ledger');
  assert.equal(await page.locator('#ns-agent option[value="scout"]').count(), 0);
  await page.keyboard.press('Escape');
  await page.click('[aria-label="Delete agent"]');
  await page.click('.dialog .solid-danger');
  await page.waitForURL(/\/a$/);
  await page.waitForSelector('[data-agent="scout"]');
  assert.equal(await page.$('[data-agent="ledger"]'), null);
  assert.deepEqual(faults, []);
  fake.more.seed();
});

test('a stored script in any field of an agent, a worker or a bill never runs', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
  fake.more.agent({ name: 'evil', description: evil, system_prompt: `${evil}\n[x](javascript:window.hacked=1)\n`, model: evil, tools: [evil], approval: { [evil]: 'ask' }, network: { mode: evil, allow: [evil] } });
  const w = { ...fake.more.workers[0], worker_id: evil, state: evil, kinds: [evil], version: evil, limits: { [evil]: { by: evil, proven: false, why: evil } }, slot: { kind: 'vm', progress: evil } };
  fake.more.workers.push(w);
  t.after(() => {
    fake.more.agents.delete('evil');
    fake.more.workers.splice(fake.more.workers.indexOf(w), 1);
  });
  for (const [to, ready] of [['/a', '[data-agent="evil"]'], ['/a/evil', '.prompt-box[data-editor="open"] .view-line:has-text("javascript")'], ['/w', '.worker [role=status]:has-text("onerror")'], ['/c', '.usage-table tbody tr']]) {
    await enter(page, fake, to);
    await page.waitForSelector(ready);
    for (const s of await page.$$('details summary')) await s.click();
    assert.equal(await page.evaluate(() => globalThis.hacked), undefined, to);
    assert.equal(await page.$('img[onerror]'), null, to);
  }
  assert.deepEqual(faults, []);
});

test('MCP servers, skills, report: no JSON is told before it is sent, what the server says stands at the field until it is changed', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  fake.more.agent({ name: 'linked', mcp_servers: [{ name: 'git', command: ['uvx', 'mcp-server-git'] }], output_schema: { type: 'object' } });
  t.after(() => fake.more.agents.delete('linked'));
  await enter(page, fake, '/a/linked');
  await page.waitForFunction(() => document.querySelector('#agent-servers')?.value.includes('uvx'));
  assert.equal(await page.$('.unsaved'), null);
  await page.fill('#agent-servers', '[{ "name": "git", ');
  await page.waitForSelector('#agent-servers-wrong:has-text("no JSON")');
  await page.fill('#agent-servers', '{ "name": "git" }');
  await page.waitForSelector('#agent-servers-wrong:has-text("A list")');
  await page.fill('#agent-servers', '[{ "name": "git" }]');
  await page.click('text=Save changes');
  await page.waitForSelector('#agent-servers-wrong:has-text("either url")');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'agent-servers');
  assert.equal(await page.isDisabled('.agent-head [type=submit]'), true);
  await page.fill('#agent-servers', '[{ "name": "search", "url": "https://mcp.example.com/mcp" }]');
  assert.equal(await page.$('#agent-servers-wrong'), null);
  await page.fill('#agent-skills', '[{ "tag": "house-style" }]');
  await page.click('text=Save changes');
  await page.waitForSelector('.agent-head:has-text("v2")');
  const { mcp_servers, skills, output_schema } = agent('linked');
  assert.deepEqual([mcp_servers[0].url, skills, output_schema], ['https://mcp.example.com/mcp', [{ tag: 'house-style' }], { type: 'object' }]);
  assert.deepEqual(faults.filter((f) => !/status of 400/.test(f)), []);
});

test('usage: chart of days, groups, export; health: limits proven or not, drain', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page, fake, '/c');
  await page.waitForSelector('.chart .day');
  const bars = await page.locator('.chart .day').count();
  await page.click('text=7 days');
  await page.waitForFunction((n) => document.querySelectorAll('.chart .day').length < n, bars);
  await page.hover('.chart .day >> nth=0');
  await page.waitForSelector('.chart-tip');
  await page.click('.chart-panel >> text=Tokens');
  await page.click('.usage-tools >> text=Session');
  await page.waitForSelector('.usage-table td a');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('text=Export CSV')]);
  assert.match(download.suggestedFilename(), /^usage-by-session-.*\.csv$/);
  await page.click('.side-nav >> text=Health');
  await page.waitForSelector('[data-worker="worker-1"]');
  assert.equal(await page.innerText('.warm [data-kind="desktop"][data-met="false"]'), 'Desktop\n1 of 2 ready\n1 being made');
  assert.match(await page.innerText('.warm [data-kind="headless"][data-met="true"]'), /code-12\n1 of 1 ready/);
  await page.click('[data-worker="worker-1"] summary');
  await page.waitForSelector('[data-worker="worker-1"] .proof[data-proven="false"]');
  await page.click('[data-worker="worker-2"] >> text=Drain');
  await page.click('.dialog .solid-danger');
  await page.waitForSelector('[data-worker="worker-2"] .chip');
  assert.equal(fake.more.workers[1].draining, true);
  assert.deepEqual(faults, []);
});

test('looks: agents, an agent, usage, health', LIMIT, async (t) => {
  await looks(browser, t, 'agents', fake, '/a', (page) => page.waitForSelector('[data-agent="watcher"]'));
  await looks(browser, t, 'agent', fake, '/a/ledger', (page) => page.waitForSelector('.prompt-box[data-editor="open"] .view-line:has-text("Check every")'));
  await looks(browser, t, 'usage', fake, '/c', (page) => page.waitForSelector('.usage-table td a'));
  await looks(browser, t, 'health', fake, '/w', (page) => page.waitForSelector('.worker'));
});
