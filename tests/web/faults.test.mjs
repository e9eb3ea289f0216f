// What goes wrong on the page stays small: parts that fail, acts that are refused, answers that break off; and what moves, moves only for who wants it.
// In a real browser against the FAKE gateway.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { axeFindings, enter, LIMIT, open, stage } from './browser.mjs';

const { browser, fake } = await stage({ seed: true, speed: 20, demo: false });
const session = (name) => {
  const s = fake.newSession({ session_name: name, kind: 'headless' });
  fake.emit(s, 'message', { role: 'user', content: 'Count the lines', message_id: `m-${name}` });
  fake.setStatus(s, 'running');
  return s;
};
const chunk = (page, name, body) => page.route(`**/assets/${name}-*.js`, (r) => (body === null ? r.abort() : r.fulfill({ contentType: 'text/javascript', body })));

test('an entry that cannot be drawn is one line; the others, and those that come, are there', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await chunk(page, 'highlighter', "export const paint = () => { throw new Error('this entry is broken'); };");
  const s = session('Broken entry');
  fake.emit(s, 'pre_tool', { tool_call_id: 'x', tool_name: 'bash', tool_input: { command: 'ls' } });
  fake.emit(s, 'post_tool', { tool_call_id: 'x', tool_name: 'bash', tool_output: [{ type: 'text', text: 'a' }], exit_code: 0 });
  await enter(page, fake, `/s/${s.session.session_id}`);
  await page.waitForSelector('.item[data-kind="tool"] .fault:has-text("cannot be shown")');
  await page.waitForSelector('.said:has-text("Count the lines")');
  fake.emit(s, 'message', { role: 'assistant', content: [{ type: 'text', text: 'Still **here**.' }] });
  await page.waitForSelector('.prose strong:has-text("here")');
  assert.equal(await page.$('.main .blank'), null);
  assert.ok(faults.every((f) => /this entry is broken/.test(f)), faults.join('\n'));
});

test('a part that fails says so and leaves the rest; another part of the same session works; a part that cannot be loaded says what to do', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await chunk(page, 'timeline', "export const Timeline = () => { throw new Error('this part is broken'); };");
  await chunk(page, 'usage', null);
  const s = session('Broken part');
  await enter(page, fake, `/s/${s.session.session_id}`);
  await page.waitForSelector('.said');
  await page.click('.s-tabs >> text=Timeline');
  await page.waitForSelector('.s-body .blank:has-text("This part of the page failed")');
  assert.deepEqual(await axeFindings(page), []);
  await page.waitForSelector('.s-head .status[data-status="running"]');
  fake.setStatus(s, 'idle');
  await page.waitForSelector('.s-head .status[data-status="idle"]');
  await page.click('.s-tabs >> text=Conversation');
  await page.waitForSelector('.said:has-text("Count the lines")');
  await page.click('.side-nav >> text=Usage');
  await page.waitForSelector('.blank >> text=Reload');
  await page.click('.side-nav >> text=Documents');
  await page.waitForSelector('.doc-table');
  assert.ok(faults.every((f) => /this part is broken|ERR_FAILED/.test(f)), faults.join('\n'));
});

test('shown at once, taken back when refused: a name, tags, a description', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  const s = session('Old name');
  await enter(page, fake, `/s/${s.session.session_id}`);
  // The answer is held back: what is shown before it came was not waited for.
  let answer = null;
  const hold = (what) => page.route(what, async (r) => {
    if (r.request().method() !== 'PATCH') return r.continue();
    await new Promise((done) => (answer = done));
    return r.fulfill({ status: 503, contentType: 'application/json', body: JSON.stringify({ error: { code: 'unavailable', message: 'A part of Berth is starting.' } }) });
  });
  const refused = async () => {
    for (; answer === null; await page.waitForTimeout(20));
    answer();
    answer = null;
    await page.waitForSelector('.toast.error:has-text("is starting"):has-text("Try again in a moment")');
    await page.click('.toast.error [aria-label]');
  };
  await hold('**/sessions/*/metadata');
  await page.click('.s-title button');
  await page.fill('.s-title input', 'New name');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.card:has-text("New name")');
  await refused();
  await page.waitForSelector('.card:has-text("Old name")');
  await page.waitForSelector('.s-title:has-text("Old name")');

  await page.goto(`${fake.url}/d`);
  await page.click('.doc-name:has-text("terms.json")');
  await page.waitForSelector('.preview .facts');
  await hold('**/documents/*');
  await page.click('.preview >> text=Add tag');
  await page.fill('.tag-edit input', 'too-early');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.tag-edit .chip:has-text("too-early")');
  await refused();
  await page.waitForSelector('.tag-edit .chip:has-text("too-early")', { state: 'detached' });
  await page.click('.describe');
  await page.fill('.preview-info textarea', 'Something else');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.describe:has-text("Something else")');
  await refused();
  await page.waitForSelector('.describe:has-text("Payment terms")');
  assert.deepEqual(faults, []);
});

test('a document that no list holds is changed where it is open', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page, fake, '/d');
  await page.click('.doc-name:has-text("terms.json")');
  await page.waitForSelector('.preview .facts');
  const to = page.url();
  // The list shows others only.
  await page.route('**/documents?*', (r) => r.fulfill({ contentType: 'application/json', body: JSON.stringify({ documents: [], total: 0 }) }));
  await page.goto(to);
  await page.waitForSelector('.preview h2:has-text("terms.json")');
  await page.click('.preview >> text=Add tag');
  await page.fill('.tag-edit input', 'alone');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.tag-edit .chip:has-text("alone")');
  assert.deepEqual(faults, []);
});

test('Markdown, JSON and CSV: rendered or as they are', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page, fake, '/d');
  const json = '{"b":[1,2],"a":{"c":"<img src=x onerror=window.hacked=1>"}}';
  await page.setInputFiles('[data-upload]', [
    { name: 'toggle.md', mimeType: 'text/markdown', buffer: Buffer.from('# Head\n\n- one\n- *two*\n') },
    { name: 'toggle.json', mimeType: 'application/json', buffer: Buffer.from(json) },
    { name: 'toggle.csv', mimeType: 'text/csv', buffer: Buffer.from('name,n\n"a, b",2\n') },
  ]);
  const show = async (name) => {
    await page.click(`.doc-name:has-text("${name}")`);
    await page.waitForSelector(`.preview h2:has-text("${name}")`);
  };
  const press = (which) => page.click(`.preview-bar .segments >> text=${which}`);
  const source = () => page.textContent('.preview-body .source');
  await show('toggle.md');
  await page.waitForSelector('.preview-body .prose h1:has-text("Head")');
  await page.waitForSelector('.preview-body .prose em:has-text("two")');
  await press('Source');
  assert.equal(await source(), '# Head\n\n- one\n- *two*\n');
  assert.equal(await page.$('.preview-body .prose'), null);
  await press('Rendered');
  await page.waitForSelector('.preview-body .prose h1');
  await show('toggle.json');
  await page.waitForSelector('.preview-body .source');
  assert.equal(await source(), JSON.stringify(JSON.parse(json), null, 2));
  await press('Source');
  assert.equal(await source(), json);
  await show('toggle.csv');
  await page.waitForSelector('.csv td:has-text("a, b")');
  await press('Source');
  assert.equal(await source(), 'name,n\n"a, b",2\n');
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.deepEqual(faults, []);
});

test('an answer from documents is seen as it is spoken; what does not count goes; a broken one says so and keeps the question', LIMIT, async (t) => {
  const { page, faults } = await open(browser, t);
  await enter(page, fake, '/d');
  await page.click('.docs-head >> text=Ask');
  const ask = async (question) => {
    await page.fill('.ask textarea', question);
    await page.keyboard.press('Enter');
  };
  fake.hold();
  t.after(() => fake.go());
  await ask('How many?');
  // The passages are there before the model has said a word.
  await page.waitForSelector('.sources li');
  assert.equal(await page.$('.answer'), null);
  assert.deepEqual(await axeFindings(page), []);
  fake.step();
  await page.waitForFunction(() => document.querySelector('.answer.speaking')?.textContent === 'Thirteen');
  fake.step();
  await page.waitForFunction(() => document.querySelector('.answer.speaking')?.textContent === 'Forty-two <b>');
  fake.go();
  await page.waitForSelector('.answer:not(.speaking) .cite');
  assert.equal(await page.textContent('.answer'), 'Forty-two <b>1</b> 1.');
  await page.waitForSelector('.sources li[data-cited="true"]');
  await ask('broken');
  await page.waitForSelector('.ask .wrong:has-text("The model did not answer.")');
  assert.equal(await page.$('.answer'), null);
  await ask('cut');
  await page.waitForSelector('.ask .wrong');
  assert.equal(await page.inputValue('.ask textarea'), 'cut');
  assert.ok(faults.every((f) => /ERR_INCOMPLETE_CHUNKED_ENCODING/.test(f)), faults.join('\n'));
});

test('who wants no motion sees none', LIMIT, async (t) => {
  const s = session('Moves');
  const moving = async (reducedMotion) => {
    const { page } = await open(browser, t, { reducedMotion });
    await enter(page, fake, `/s/${s.session.session_id}`);
    await page.waitForSelector('.working .dots');
    await page.waitForSelector('.side [data-link="open"]');
    await page.waitForFunction(() => document.getAnimations().every((a) => a.effect.getComputedTiming().iterations === Infinity || a.playState === 'finished'));
    const all = await page.evaluate(() => document.getAnimations().filter((a) => a.playState === 'running').length);
    const long = await page.evaluate(() => [...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).transitionDuration.split(', ').some((d) => parseFloat(d) > 0.01)).length);
    return [all, long];
  };
  const [still, slow] = await moving('reduce');
  assert.deepEqual([still, slow], [0, 0]);
  const [all, long] = await moving('no-preference');
  assert.ok(all > 0 && long > 0, `${all} animations, ${long} transitions: there would be something to see`);
});
