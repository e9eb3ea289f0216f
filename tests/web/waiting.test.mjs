// Cards of approvals and questions against a real Berth, its worker killed while they are pending. Skipped without BERTH_URL, BERTH_TOKEN
// and BERTH_WORKER_PID (a file with the process id of the worker, which is started again when it dies).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { axeFindings, berth, open, SHOTS } from './browser.mjs';

const { browser, options, url, token } = await berth(300_000, 'BERTH_WORKER_PID');
const { BERTH_WORKER_PID: file } = process.env;

async function call(to, body) {
  const r = await fetch(url + to, { method: body ? 'POST' : 'GET', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }, body: body && JSON.stringify(body) });
  assert.ok(r.ok, `${to}: ${r.status}`);
  return r.json();
}

async function until(what, check) {
  for (const end = Date.now() + 60_000; ; await new Promise((done) => setTimeout(done, 50))) {
    const value = await check();
    if (value) return value;
    assert.ok(Date.now() < end, what);
  }
}

const worker = () => Number(readFileSync(file, 'utf8'));
/** The worker dies; another one is up and greeted, and the session still waits. */
async function kill(id, waitingFor) {
  const old = worker();
  process.kill(old, 'SIGKILL');
  await until('a new worker', () => worker() !== old);
  await until('the worker to be back', async () => (await call('/workers')).workers.some((w) => w.slot?.state !== 'unknown'));
  const s = await call(`/sessions/${id}`);
  assert.equal(s.status, 'waiting');
  assert.equal(s.waiting.for, waitingFor);
}

test('approvals and a question on the page survive the death of the worker and are answered there', options, async (t) => {
  const turns = [
    { tools: [['bash', { command: 'echo was-allowed' }]] }, { tools: [['ask_human', { question: 'Which colour?', choices: ['red', 'green'] }]] },
    { tools: [['bash', { command: 'echo never' }]] }, { text: 'All of it is done.' },
  ];
  await call('/agents', { name: 'asks-the-page', approval: { bash: 'ask' } });
  const { session_id: id } = await call('/sessions', { kind: 'headless', agent_name: 'asks-the-page', message: `SCRIPT: ${JSON.stringify(turns)}` });
  const { page, faults } = await open(browser, t);
  page.setDefaultTimeout(60_000);
  await page.goto(`${url}/s/${id}#token=${token}`);
  const card = page.getByRole('region', { name: 'The agent asks for permission' });
  await card.getByText('echo was-allowed').first().waitFor();
  await page.screenshot({ path: path.join(SHOTS, 'approval-real.png') });
  assert.deepEqual(await axeFindings(page), []);
  await kill(id, 'approval');
  await card.getByText('echo was-allowed').first().waitFor();
  await page.reload();
  await card.getByText('echo was-allowed').first().waitFor();
  await card.getByRole('button', { name: 'Allow once' }).click();
  await page.locator('.note-line[data-decision=allowed]').waitFor();

  const waits = page.locator('.waits[data-for=answer]');
  await waits.getByText('Which colour?').waitFor();
  await page.screenshot({ path: path.join(SHOTS, 'question-real.png') });
  assert.deepEqual(await axeFindings(page), []);
  await kill(id, 'answer');
  await waits.getByText('Which colour?').waitFor();
  await waits.getByRole('button', { name: 'green' }).click();

  await card.getByText('echo never').first().waitFor();
  await card.getByLabel('A word to the agent (optional)').fill('not on my machine');
  await card.getByRole('button', { name: 'Deny', exact: true }).click();
  await page.locator('.note-line[data-decision=denied]').waitFor();
  await page.getByText('All of it is done.', { exact: true }).waitFor();

  const { events } = await call(`/events/${id}?limit=500`);
  const results = events.filter((e) => e.event_type === 'post_tool');
  assert.match(JSON.stringify(results[0].tool_output), /was-allowed/);
  assert.match(JSON.stringify(results[1].tool_output), /green/);
  assert.match(results[2].error, /not on my machine/);
  assert.equal(events.filter((e) => e.event_type === 'pre_tool' && e.tool_name === 'bash').length, 1, 'what was denied never ran');
  assert.equal(events.filter((e) => e.event_type === 'approval_requested').length, 2, 'asked once each');
  assert.deepEqual(faults, []);
});
