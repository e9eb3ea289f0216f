// The page's modules without a page: transcript, diff, CSV, backoff, words.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { root } from './browser.mjs';

const { build } = createRequire(path.join(root, 'web/package.json'))('esbuild');
const dir = mkdtempSync(path.join(tmpdir(), 'berth-web-'));
let m;

before(async () => {
  await build({
    stdin: {
      contents: "export * from './model/transcript'; export * from './model/describe'; export * from './model/filetype'; export * from './lib/diff'; export * from './lib/csv'; export * from './lib/backoff'; export * as format from './lib/format';",
      resolveDir: path.join(root, 'web/src'), loader: 'ts',
    },
    bundle: true, format: 'esm', platform: 'node', outfile: path.join(dir, 'm.mjs'), logLevel: 'error',
  });
  m = await import(path.join(dir, 'm.mjs'));
});
after(() => rmSync(dir, { recursive: true }));

let seq = 0;
const event = (event_type, body = {}) => ({ id: ++seq, session_id: 's', seq, event_type, timestamp: '2026-01-01T00:00:00.000000Z', ...body });
const reset = () => {
  seq = 0;
};

test('a tool call is one item from intent to result, with one picture', () => {
  reset();
  const t = new m.Transcript();
  const image = { type: 'image', url: '/sessions/s/attachments/a', width: 10, height: 10 };
  for (const e of [
    event('message', { role: 'user', content: 'do it', message_id: 'u1' }),
    event('thinking', { content: 'hm' }),
    event('message', { role: 'assistant', content: [{ type: 'thinking', thinking: 'hm' }, { type: 'text', text: 'ok' }, { type: 'tool_use', id: 'c1', name: 'computer', input: { action: 'left_click', coordinate: [1, 2] } }] }),
    event('pre_tool', { tool_call_id: 'c1', tool_name: 'computer', tool_input: { action: 'left_click', coordinate: [1, 2] } }),
    event('screenshot', { tool_call_id: 'c1', url: image.url, width: 10, height: 10 }),
    event('post_tool', { tool_call_id: 'c1', tool_name: 'computer', tool_output: [image], error: null, duration_ms: 5 }),
    event('message', { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'c1', content: 'x' }] }),
  ]) assert.equal(t.apply(e), true);
  assert.deepEqual(t.items.map((i) => i.kind), ['user', 'thinking', 'text', 'tool']);
  assert.equal(t.items[3].state, 'done');
  assert.equal(t.items[3].output.length, 1);
});

test('an update that is known is not applied again', () => {
  reset();
  const t = new m.Transcript();
  const e = event('message', { role: 'user', content: 'a' });
  assert.equal(t.apply(e), true);
  assert.equal(t.apply(e), false);
  assert.equal(t.items.length, 1);
});

test('any cut and replay of a stream gives the same conversation', () => {
  reset();
  const all = [];
  for (let i = 0; i < 40; i++) {
    all.push(event('message', { role: 'assistant', content: [{ type: 'text', text: `t${i}` }, { type: 'tool_use', id: `c${i}`, name: 'bash', input: { command: 'x' } }] }));
    all.push(event('pre_tool', { tool_call_id: `c${i}`, tool_name: 'bash', tool_input: { command: 'x' } }));
    all.push(event('post_tool', { tool_call_id: `c${i}`, tool_name: 'bash', tool_output: [{ type: 'text', text: 'y' }], error: null, exit_code: 0 }));
  }
  const whole = new m.Transcript();
  all.forEach((e) => whole.apply(e));
  for (let n = 0; n < 200; n++) {
    const t = new m.Transcript();
    const cut = Math.floor((n / 200) * all.length);
    all.slice(0, cut).forEach((e) => t.apply(e));
    t.delta({ type: 'delta', session_id: 's', turn: 1, block: 0, kind: 'text', text: 'half' });
    t.dropLive();
    all.slice(Math.max(0, cut - (n % 7))).forEach((e) => t.apply(e));
    assert.deepEqual(t.items, whole.items);
    assert.equal(t.live.length, 0);
  }
});

test('deltas give way to the finished message', () => {
  reset();
  const t = new m.Transcript();
  t.delta({ turn: 1, block: 0, kind: 'thinking', text: 'a' });
  t.delta({ turn: 1, block: 1, kind: 'text', text: 'b' });
  t.delta({ turn: 1, block: 1, kind: 'text', text: 'c' });
  assert.deepEqual(t.live.map((b) => b.text), ['a', 'bc']);
  t.apply(event('thinking', { content: 'a' }));
  assert.deepEqual(t.live.map((b) => b.kind), ['text']);
  t.apply(event('message', { role: 'assistant', content: [{ type: 'text', text: 'bc' }] }));
  assert.deepEqual(t.live, []);
});

test('what a running command prints is shown with its call, and replaced by the result', () => {
  reset();
  const t = new m.Transcript();
  const print = (text) => t.delta({ type: 'delta', kind: 'tool_output', tool_call_id: 'c', stream: 'stdout', text });
  print('too early');
  t.apply(event('pre_tool', { tool_call_id: 'c', tool_name: 'bash', tool_input: { command: 'x' } }));
  const before = t.items[0];
  print('a');
  print('b');
  assert.equal(t.items[0].printed, 'ab');
  assert.notEqual(t.items[0], before);
  print('c'.repeat(100_000));
  assert.ok(t.items[0].printed.length <= 32_768);
  t.apply(event('post_tool', { tool_call_id: 'c', tool_name: 'bash', tool_output: [{ type: 'text', text: 'ab' }], error: null }));
  print('late');
  assert.equal(t.items[0].printed, '');
  assert.deepEqual(t.live, []);
});

test('a call that was running at the end is shown as interrupted', () => {
  reset();
  const t = new m.Transcript();
  t.apply(event('pre_tool', { tool_call_id: 'c', tool_name: 'bash', tool_input: { command: 'sleep 60' } }));
  t.apply(event('status', { from: 'running', to: 'stopped', reason: '' }));
  assert.equal(t.items[0].state, 'failed');
});

test('hostile bodies do not break the transcript', () => {
  reset();
  const t = new m.Transcript();
  for (const type of ['message', 'thinking', 'pre_tool', 'post_tool', 'screenshot', 'status', 'usage', 'error', 'log', 'session_stop', 'unheard_of']) {
    for (const v of [undefined, null, 7, 'x', [], [null, 1, 'a', {}], { a: 1 }]) {
      t.apply(event(type, { role: v, content: v, tool_call_id: v, tool_name: v, tool_input: v, tool_output: v, error: v, url: v, from: v, to: v, total: v, message: v }));
    }
  }
  assert.equal(t.lastSeq, 77);
});

test('diff shows what changed', () => {
  assert.deepEqual(m.diffLines('a\nb\nc', 'a\nx\nc').map((l) => l.sign + l.text), [' a', '-b', '+x', ' c']);
  assert.deepEqual(m.diffLines('', 'a').map((l) => l.sign), ['+']);
  const before = Array.from({ length: 2000 }, (_, i) => `l${i}`).join('\n');
  assert.equal(m.diffLines(before, before + '\nz').filter((l) => l.sign === '+').length, 2001);
});

test('csv: quotes, line breaks, separators, limits', () => {
  assert.deepEqual(m.parseCsv('a,b\r\n"x, ""y""","1\n2"\n', 10).rows, [['a', 'b'], ['x, "y"', '1\n2']]);
  assert.equal(m.guessSeparator('a;b;c\n'), ';');
  const long = m.parseCsv('a\n'.repeat(50), 10);
  assert.equal(long.rows.length, 10);
  assert.equal(long.more, true);
});

test('waits grow from 1 s to 30 s with jitter', () => {
  const low = new m.Backoff(1000, 30_000, () => 0);
  const high = new m.Backoff(1000, 30_000, () => 1);
  assert.deepEqual(Array.from({ length: 7 }, () => high.next()), [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  assert.deepEqual(Array.from({ length: 3 }, () => low.next()), [500, 1000, 2000]);
  high.reset();
  assert.equal(high.next(), 1000);
});

test('actions in words', () => {
  const say = (input) => m.describe('computer', input).title;
  assert.equal(say({ action: 'left_click', coordinate: [412, 233] }), 'Clicked at 412, 233');
  assert.equal(say({ action: 'key', text: 'ctrl+Return' }), 'Pressed Ctrl + Enter');
  assert.deepEqual(['', '+', 'ctrl++', 'ctrl+plus'].map((text) => say({ action: 'key', text })), ['Pressed ', 'Pressed +', 'Pressed Ctrl + +', 'Pressed Ctrl + +']);
  assert.equal(say({ action: 'scroll', coordinate: [1, 2], scroll_direction: 'down', scroll_amount: 3 }), 'Scrolled down by 3 at 1, 2');
  assert.equal(say({ action: 'left_click_drag', start_coordinate: [1, 2], coordinate: [3, 4] }), 'Dragged from 1, 2 to 3, 4');
  assert.equal(m.describe('left_click', { coordinate: [1, 2] }).family, 'computer');
  assert.equal(m.describe('str_replace_based_edit_tool', { command: 'create', path: '/home/a/b.py' }).title, 'Created b.py');
  assert.deepEqual(['ask_human', 'done', 'session_wait', 'execute_code'].map((n) => m.describe(n, {}).family), ['ask', 'report', 'session', 'code']);
  assert.equal(m.describe('mcp__my-server__get_sum', {}).title, 'get_sum (my-server)');
  assert.equal(m.describe('session_start', { title: 'count' }).title, 'Handed “count” to another session');
  for (const junk of [{}, { action: 7 }, { coordinate: 'x' }, { action: 'type', text: null }]) assert.equal(typeof say(junk), 'string');
});

test('a file that could act is only ever text', () => {
  const kind = (filename, content_type) => m.fileKind({ filename, content_type });
  assert.equal(kind('a.png', 'image/png'), 'image');
  assert.equal(kind('a.png', 'application/octet-stream'), 'image');
  assert.equal(kind('a.md', 'application/octet-stream'), 'markdown');
  assert.equal(kind('a.svg', 'image/png'), 'markup');
  assert.equal(kind('a.png', 'image/svg+xml'), 'markup');
  assert.equal(kind('a.txt', 'text/html'), 'markup');
  assert.equal(kind('a.csv', 'text/plain'), 'csv');
  assert.equal(kind('a.bin', 'application/octet-stream'), 'none');
  assert.equal(m.imageType({ filename: 'a.png', content_type: 'application/octet-stream' }), 'image/png');
});

test('numbers as people read them', () => {
  assert.equal(m.format.count(999), '999');
  assert.equal(m.format.count(1500), '1.5k');
  assert.equal(m.format.money(0.004), '<$0.01');
  assert.equal(m.format.bytes(1536), '1.5 KB');
  assert.equal(m.format.ago('2026-01-01T00:00:00.000000Z', Date.parse('2026-01-01T00:02:30Z')), '2 min ago');
});
