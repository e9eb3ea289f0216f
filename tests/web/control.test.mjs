// Control of a session in a real browser against the FAKE gateway: pause, resume, interrupt, fork, budget, approvals, questions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enter, LIMIT, looks, open, stage } from './browser.mjs';

const { browser, fake } = await stage({ seed: true, speed: 4, demo: false });

const running = (name, budget = {}) => {
  const s = fake.newSession({ session_name: name });
  s.session.budget = budget;
  fake.emit(s, 'message', { role: 'user', content: 'Find the unpaid orders', message_id: `m-${name}` });
  fake.setStatus(s, 'running');
  return s;
};
const shows = (page, status) => page.waitForSelector(`.s-head .status[data-status="${status}"]`);

test('pause, resume, interrupt: shown at once, taken back when refused; fork opens a new session', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const s = running('Controls');
  await enter(page, fake, `/s/${s.session.session_id}`);
  await shows(page, 'running');
  await page.click('.s-head [aria-label^="Pause"]');
  await shows(page, 'paused');
  await page.getByRole('button', { name: 'Resume' }).click();
  await shows(page, 'running');
  await page.click('.s-head [aria-label^="Interrupt"]');
  await shows(page, 'idle');
  assert.equal(s.session.status, 'idle');
  fake.setStatus(s, 'running');
  await shows(page, 'running');
  fake.refuse(true);
  for (const button of ['.s-head [aria-label^="Pause"]', '.s-head .btn.danger']) {
    await page.click(button);
    await page.waitForSelector('.toast.error:has-text("not in a state")');
    await shows(page, 'running');
    await page.click('.toast.error [aria-label]');
  }
  fake.refuse(false);
  assert.equal(s.session.status, 'running');
  await page.click('.s-head [aria-label="More actions"]');
  await page.click('.s-head >> text=Fork');
  await page.waitForSelector('.s-title:has-text("Controls (fork)")');
  await page.waitForSelector('.said:has-text("unpaid orders")');
  await shows(page, 'idle');
  assert.deepEqual(faults, []);
});

test('a budget that is used up says so and is raised; a refusal brings the old one back', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const s = running('Budget', { cost_usd: 0.5, turns: 100 });
  s.session.usage = { ...s.session.usage, cost_usd: 0.5, turns: 12 };
  fake.more.waits(s, 'budget');
  await enter(page, fake, `/s/${s.session.session_id}`);
  await page.waitForSelector('.budget-bar .meter[data-level="full"]');
  await page.click('.waits >> text=Raise budget');
  await page.fill('#budget-cost_usd', '0.4');
  await page.waitForSelector('#budget-cost_usd-wrong');
  await page.fill('#budget-cost_usd', 'much');
  assert.equal(await page.isDisabled('.dialog [type=submit]'), true);
  await page.click('[aria-label^="Cost in dollars:"]');
  assert.equal(await page.inputValue('#budget-cost_usd'), '0.75');
  fake.refuse(true);
  await page.click('.dialog [type=submit]');
  await page.waitForSelector('.toast.error');
  await page.waitForSelector('.budget-bar:has-text("$0.50 of $0.50")');
  fake.refuse(false);
  await page.click('.budget-bar');
  await page.fill('#budget-cost_usd', '2');
  await page.click('.dialog [type=submit]');
  await page.waitForSelector('.budget-bar:has-text("$0.50 of $2.00")');
  await shows(page, 'running');
  assert.deepEqual(s.session.budget, { cost_usd: 2, turns: 100 });
  assert.deepEqual(faults, []);
});

test('approvals: a tool once with a note, an address for the session, a refusal; what the server refuses comes back', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const s = running('Approvals');
  const evil = '<img src=x onerror="window.hacked=1">';
  fake.more.ask(s, 'tool', `bash: rm -r build ${evil}`, { tool_name: 'bash', tool_input: { command: `rm -r build ${evil}` } });
  await enter(page, fake, `/s/${s.session.session_id}`);
  await page.waitForSelector('.waits[data-for="approval"]');
  await page.fill('.approval input', 'only that folder');
  fake.refuse(true);
  await page.click('.approval >> text=Allow once');
  await page.waitForSelector('.toast.error');
  assert.equal(await page.inputValue('.approval input'), 'only that folder');
  fake.refuse(false);
  await page.click('.approval >> text=Allow once');
  await page.waitForSelector('.note-line[data-decision="allowed"]:has-text("only that folder")');
  await shows(page, 'running');
  fake.more.ask(s, 'network', 'GET https://example.com/', { host: 'example.com', port: 443 });
  await page.waitForSelector('.approval[data-kind="network"] dd:has-text("example.com")');
  await page.click('.approval >> text=Allow for this session');
  await page.waitForFunction(() => document.querySelectorAll('[data-decision="allowed"]').length === 2);
  fake.more.ask(s, 'network', 'GET https://other.test/', { host: 'other.test', port: 443 });
  await page.click('.approval >> text=Deny');
  await page.waitForSelector('.note-line[data-decision="denied"]');
  assert.deepEqual(s.events.filter((e) => e.event_type === 'approval_decided').map((e) => [e.status, e.scope]), [['allowed', 'once'], ['allowed', 'session'], ['denied', 'once']]);
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.deepEqual(faults, []);
});

test('a question is said above the field; a choice and a sentence answer it', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const s = running('Question');
  // It stays at its first thought: what is looked for below does not pass by.
  fake.hold();
  t.after(() => fake.go());
  fake.more.waits(s, 'answer', 'Send the reminder to Albatros?', ['Yes', 'Not yet']);
  await enter(page, fake, `/s/${s.session.session_id}`);
  await page.waitForSelector('.waits-q:has-text("Albatros")');
  assert.equal(await page.getAttribute('.composer textarea', 'placeholder'), 'Answer the agent');
  await page.click('.waits-choices >> text=Not yet');
  await page.waitForSelector('.item .said:has-text("Not yet")');
  await shows(page, 'running');
  assert.equal(await page.$('.waits'), null);
  assert.deepEqual(faults, []);
});

test('looks: a session that waits for a decision', LIMIT, async (t) => {
  const s = running('Reconcile November', { cost_usd: 2 });
  s.session.usage = { ...s.session.usage, cost_usd: 1.7, turns: 31, input_tokens: 210_000, output_tokens: 9_000 };
  fake.more.ask(s, 'network', 'CONNECT api.bank.example:443', { host: 'api.bank.example', port: 443, method: 'CONNECT' });
  await looks(browser, t, 'approval', fake, `/s/${s.session.session_id}`, async (page) => {
    await page.waitForSelector('.approval');
    await page.waitForSelector('.desk-rfb canvas');
  });
});
