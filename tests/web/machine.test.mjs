// A virtual machine from the page, on a real Berth that makes them: BERTH_URL, BERTH_TOKEN and BERTH_MACHINES (tests/system/test_vm.py).
// The session is started in the dialog; its screen is seen, driven and typed into by noVNC. Skipped without them.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { berth, open, SHOTS } from './browser.mjs';

const { browser, options, url, token } = await berth(900_000, 'BERTH_MACHINES');
const SLOW = 300_000; // without KVM, beside other work

const call = async (to, init = {}) => {
  const r = await fetch(url + to, { ...init, headers: { Authorization: `Bearer ${token}` } });
  return { status: r.status, body: r.headers.get('content-type')?.includes('json') ? await r.json() : Buffer.from(await r.arrayBuffer()) };
};
const until = async (what, check) => {
  for (const end = Date.now() + SLOW; !(await check()); await new Promise((r) => setTimeout(r, 500))) assert.ok(Date.now() < end, what);
};
/** How many pixels of the canvas differ from what they were when it was asked last. */
const differing = (page) => page.$eval('.desk-rfb canvas', (c) => {
  const now = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  const was = window.machineWas ?? now;
  window.machineWas = now;
  let n = 0;
  for (let i = 0; i < now.length; i += 4) n += now[i] !== was[i] || now[i + 1] !== was[i + 1] || now[i + 2] !== was[i + 2];
  return n;
});

// A terminal in front that keeps what is typed; the script of the model says it is there when it has the keyboard.
const command = "(setsid xterm -T typing -geometry 100x20+60+60 -e sh -c 'cat >typed' >/dev/null 2>&1 </dev/null &)\n"
  + 'for i in $(seq 240); do id=$(xwininfo -name typing 2>/dev/null | grep -o "0x[0-9a-f]*" | head -1); [ -n "$id" ] && xprop -root _NET_ACTIVE_WINDOW | grep -q "$id" && break; sleep 0.5; done; echo up';

test('a session in a machine: chosen in the dialog, seen, taken over, typed into', options, async (t) => {
  const { page, faults } = await open(browser, t);
  page.setDefaultTimeout(SLOW);
  await page.goto(`${url}/#token=${token}`);
  await page.waitForSelector('.light[data-link="open"]', { state: 'attached' });
  await page.getByRole('button', { name: 'New session' }).first().click();
  await page.fill('#ns-message', `SCRIPT: ${JSON.stringify([{ tools: [['bash', { command }]] }, { text: 'Over to you.' }])}`);
  await page.click('.dialog >> text=Virtual machine');
  await page.screenshot({ path: path.join(SHOTS, 'machine-dialog.png') });
  await page.getByRole('button', { name: 'Start session' }).click();
  await page.waitForURL(/\/s\/[0-9a-f-]{36}/);
  const id = /\/s\/([0-9a-f-]{36})/.exec(page.url())[1];
  t.after(() => call(`/sessions/${id}/stop`, { method: 'POST' }));
  await until('idle', async () => (await call(`/sessions/${id}`)).body.status === 'idle');
  const session = (await call(`/sessions/${id}`)).body;
  assert.equal(session.kind, 'vm');

  await page.waitForSelector('.desk-live[data-live="true"]');
  await until('the first whole picture', () => page.$eval('.desk-rfb canvas', (c) => {
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    return new Set(new Uint32Array(d.buffer)).size > 16;
  }));
  await page.getByRole('button', { name: 'Take control' }).click();
  await page.getByText('You have the controls').waitFor();
  const box = await page.locator('.desk-rfb canvas').boundingBox();
  const size = await page.$eval('.desk-rfb canvas', (c) => [c.width, c.height]);
  await page.mouse.click(box.x + (300 / size[0]) * box.width, box.y + (150 / size[1]) * box.height);
  await differing(page);
  await page.keyboard.type('Typed into a machine\n', { delay: 60 });
  let seen = 0;
  await until('the terminal to show it', async () => (seen += await differing(page)) > 300);
  await until('the machine to have it', async () => {
    const file = await call(`/sessions/${id}/files/typed`);
    return file.status === 200 && String(file.body).endsWith('Typed into a machine\n');
  });
  await page.screenshot({ path: path.join(SHOTS, 'machine-typed.png') });
  const picture = await call(`/sessions/${id}/screenshot`);
  assert.equal(picture.status, 200);
  assert.deepEqual([...picture.body.subarray(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
  await page.getByRole('button', { name: 'Give back' }).click();
  await page.getByText('View only', { exact: true }).waitFor();
  assert.deepEqual(faults, []);
});
