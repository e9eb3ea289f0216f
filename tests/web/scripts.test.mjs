// Script that was stored in any text field of the API never runs on the page, and events of any shape leave it whole. The fields are those of
// /openapi.json: a new one is tried without a word here. Real Berth, real Chromium; skipped without BERTH_URL and BERTH_TOKEN.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { berth, open } from './browser.mjs';

const { browser, options, url, token } = await berth(300_000);
const EVIL = '<img src=x onerror="globalThis.hacked=1"><script>globalThis.hacked=1</script>';
const SHORT = '<img src=x onerror=hacked=1>';
const WAIT = { timeout: 60_000 };

async function send(method, to, body, headers = { 'Content-Type': 'application/json' }) {
  const r = await fetch(url + to, { method, headers: { Authorization: `Bearer ${token}`, ...headers }, body: headers['Content-Type'] ? JSON.stringify(body) : body });
  const text = await r.text();
  return { status: r.status, body: text.startsWith('{') ? JSON.parse(text) : null };
}
async function must(...call) {
  const r = await send(...call);
  assert.ok(r.status < 300, `${call[0]} ${call[1]}: ${r.status} ${JSON.stringify(r.body)}`);
  return r.body;
}

/** A body with script in every string that may hold it; `out` gets the fields' names. */
function evil(api, schema, at, out) {
  const s = schema.$ref ? api.components.schemas[schema.$ref.split('/').at(-1)] : schema;
  if (s !== schema) return evil(api, s, at, out);
  if (s.const !== undefined || s.enum) return s.const ?? s.enum[0];
  const one = s.anyOf ?? s.oneOf;
  if (one) return evil(api, one[0], at, out);
  const type = Array.isArray(s.type) ? s.type[0] : s.type;
  if (type === undefined || type === 'string') {
    const text = (s.maxLength ?? Infinity) >= EVIL.length ? EVIL : SHORT;
    if ((s.maxLength ?? Infinity) < text.length || (s.pattern && !new RegExp(s.pattern, 'u').test(text)) || s.format || s.contentEncoding) return undefined;
    out.push(at);
    return text;
  }
  if (type === 'array') {
    const item = evil(api, s.items ?? {}, `${at}[]`, out);
    return item === undefined ? undefined : [item];
  }
  if (type === 'integer' || type === 'number') return s.minimum ?? 1;
  if (type !== 'object') return undefined;
  if (Object.keys(s.properties ?? {}).length === 0) {
    out.push(`${at}{}`);
    return { [SHORT]: EVIL };
  }
  return Object.fromEntries(Object.entries(s.properties).flatMap(([name, p]) => {
    const v = evil(api, p, at ? `${at}.${name}` : name, out);
    return v === undefined ? [] : [[name, v]];
  }));
}

/** Sends it; a field that is refused is left out (or given what `sane` says) and the rest sent again. What it resolves with was stored. */
async function store(api, method, path, to, sane = {}) {
  const schema = api.paths[path][method].requestBody.content['application/json'].schema;
  const fields = [];
  let body = { ...evil(api, schema, '', fields), ...sane };
  const refused = new Set(Object.keys(sane));
  for (let tries = 0; tries < 24; tries++) {
    const r = await send(method.toUpperCase(), to, body);
    if (r.status < 300) return { reply: r.body, stored: fields.filter((f) => !refused.has(f.split(/[.[{]/, 1)[0])).map((f) => `${method} ${path} ${f}`) };
    assert.ok(r.status < 500, `${method} ${to}: ${r.status}`);
    const field = r.body?.error?.field?.split(/[.[]/, 1)[0];
    assert.ok(field && field in body && !(field in sane), `${method} ${to}: ${r.status} ${JSON.stringify(r.body)}`);
    // A name may hold no slash, and yet the script without one.
    if (body[field] === EVIL) {
      body[field] = SHORT;
      continue;
    }
    refused.add(field);
    const { [field]: _gone, ...rest } = body;
    body = rest;
  }
  throw new Error(`${method} ${to}: never taken`);
}

async function upload(name, type, text) {
  const form = new FormData();
  form.set('metadata', JSON.stringify({ description: EVIL, [SHORT]: EVIL }));
  form.set('file', new Blob([text], { type }), name);
  return must('POST', '/documents', form, {});
}

/** The page at an address: ready, and nothing of what is stored has become a part of it. */
async function look(page, to, ready, then = async () => undefined) {
  await page.goto(url + to);
  await page.waitForSelector(ready, WAIT);
  await then();
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined, to);
  assert.deepEqual(await page.$$eval('[onerror], [onload], body script, iframe, object, embed', (l) => l.map((e) => e.outerHTML.slice(0, 200))), [], to);
}
const enter = async (page) => {
  await page.goto(`${url}/#token=${token}`);
  await page.waitForSelector('.light[data-link="open"]', { state: 'attached', ...WAIT });
};

test('script in every text field of the API, and in what agents say, do and store: nothing runs on any view', options, async (t) => {
  const api = await (await fetch(`${url}/openapi.json`)).json();
  const stored = [];
  const put = async (...call) => {
    const r = await store(api, ...call);
    stored.push(...r.stored);
    return r.reply;
  };
  const run = Date.now();
  const agent = await put('post', '/agents', '/agents', { name: `evil-${run}`, status: 'active', provider: null, model: null, mcp_servers: [], skills: [], tools: null, approval: {}, output_schema: null, network: { mode: 'none' }, slot: {}, budget: {} });
  await put('patch', '/agents/{name}', `/agents/${agent.name}`, { provider: null, model: null, mcp_servers: [], skills: [], tools: null, approval: {}, output_schema: null, network: { mode: 'none' }, slot: {}, budget: {} });
  for (const [path, sane] of [['/tokens', {}], ['/users', {}], ['/tenants', {}]]) {
    const { status } = await send('POST', path, { name: EVIL });
    const r = await put('post', path, path, status < 300 ? sane : { ...sane, name: `evil-${run}`, limits: {} }).catch((e) => e);
    if (r instanceof Error) await must('POST', path, { name: `evil-${run}-b` });
  }
  const s = await put('post', '/sessions', '/sessions', { kind: 'headless', message: undefined, agent_name: agent.name, budget: undefined, slot: undefined, network: undefined });
  const id = s.session_id;
  await put('patch', '/sessions/{id}/metadata', `/sessions/${id}/metadata`, { agent_name: agent.name, budget: undefined });
  await put('post', '/sessions/{id}/messages', `/sessions/${id}/messages`);
  // What an agent that runs elsewhere reports: every kind of event.
  const kinds = api.components.schemas.ExternalEvent.properties.event_type.enum;
  for (const event_type of kinds) {
    if (event_type === 'session_stop') continue;
    await put('post', '/events', '/events', { event_type, session_id: `evil-${run}`, timestamp: undefined, ...(event_type === 'session_start' ? {} : { id: undefined }) });
  }
  await put('post', '/log', '/log', { session_id: `evil-${run}` });
  // What a model says, and what a slot holds.
  const turns = [
    { thinking: EVIL, text: `${EVIL}\n\n[a](javascript:globalThis.hacked=1) <a href="javascript:globalThis.hacked=1">b</a>\n\n\`\`\`html\n${EVIL}\n\`\`\``, tools: [['bash', { command: `printf '%s' '${EVIL.replaceAll("'", '')}'; mkdir -p 'in <b>'; touch '${SHORT}' 'in <b>/${SHORT}'` }]] },
    { tools: [['str_replace_based_edit_tool', { command: 'create', path: `/home/agent/${SHORT}.md`, file_text: EVIL }], ['document_put', { path: `/home/agent/${SHORT}.md`, filename: `${SHORT}.md`, description: EVIL }]] },
    { tools: [[EVIL.slice(0, 60), { [EVIL]: EVIL }], ['ask_human', { question: EVIL, choices: [EVIL, 'b'] }]] },
  ];
  const said = await must('POST', '/sessions', { kind: 'headless', session_name: EVIL, message: `SCRIPT: ${JSON.stringify(turns)}` });
  const docs = [];
  for (const [ext, type] of [['md', 'text/markdown'], ['csv', 'text/csv'], ['json', 'application/json'], ['html', 'text/html'], ['svg', 'image/svg+xml'], ['txt', 'text/plain'], ['py', 'text/x-python']]) {
    docs.push((await upload(`${SHORT}.${ext}`, type, ext === 'json' ? JSON.stringify({ [EVIL]: EVIL }) : ext === 'csv' ? `${SHORT},b\n"${EVIL.replaceAll('"', '""')}",1\n` : `${EVIL}\n`)).id);
  }
  await put('patch', '/documents/{id}', `/documents/${docs[5]}`, { tags: ['evil'] });
  await put('post', '/documents/{id}/relations', `/documents/${docs[0]}/relations`, { document_id: docs[1] });
  // The fields that must have been among them: if one is refused one day, or is not tried any more, this says so.
  for (const f of ['post /sessions session_name', 'post /sessions project_dir', 'patch /sessions/{id}/metadata session_name', 'post /agents description', 'post /agents system_prompt', 'patch /documents/{id} description', 'patch /documents/{id} filename',
    'post /events tool_name', 'post /events tool_input', 'post /events tool_output', 'post /events content', 'post /events error', 'post /events message', 'post /events session_name', 'post /log message']) assert.ok(stored.includes(f), `${f} was not stored; stored were\n${stored.join('\n')}`);

  const { page, faults } = await open(browser, t);
  await enter(page);
  const unfold = async () => {
    for (const b of await page.$$('.think > button[aria-expanded="false"], .tool-head[aria-expanded="false"]')) await b.click();
  };
  await look(page, '/', '.card', async () => {
    await page.keyboard.press('Control+k');
    await page.fill('.palette input', 'onerror');
    await page.waitForSelector('.palette [aria-selected="true"]');
    await page.keyboard.press('Escape');
    await page.click('.side-search .icon-btn');
    await page.keyboard.press('Escape');
  });
  for (const one of [id, `evil-${run}`, said.session_id]) {
    await look(page, `/s/${one}`, '.item', async () => {
      if (one === said.session_id) await page.waitForSelector('.s-head .status[data-status="waiting"]', WAIT);
      await unfold();
      assert.equal(await page.$('.fault:has-text("cannot be shown")'), null);
      for (const a of await page.$$('.prose a')) assert.doesNotMatch((await a.getAttribute('href')) ?? '', /^javascript:/i);
    });
    await look(page, `/s/${one}/timeline`, '.event', async () => {
      await page.click('text=Expand all');
      await page.waitForSelector('.event-json');
      for (let y = 0; y < 6; y++) {
        await page.hover('.events');
        await page.mouse.wheel(0, -700);
      }
    });
  }
  await look(page, `/s/${said.session_id}/files`, '.file-name:has-text("onerror")', async () => {
    await page.click('[data-file="in <b>"] .file-name');
    await page.waitForSelector('.crumbs >> text=in <b>');
  });
  await look(page, '/d', '.doc-name:has-text("onerror")', async () => {
    await page.fill('.docs-head [type=search]', 'onerror');
    await page.waitForSelector('.hits li');
    await page.fill('.docs-head [type=search]', '');
  });
  for (const d of docs) await look(page, `/d/${d}`, '.preview-body > :not(.doc-skel)', async () => {
    for (const u of await page.$$('.preview .unfold summary')) await u.click();
    const raw = page.locator('.preview-bar .segments >> text=Source');
    if (await raw.count()) await raw.click();
  });
  await look(page, `/u/evil-${run}`, '.log-card');
  await look(page, '/a', '.agent-name');
  await look(page, `/a/${agent.name}`, '.prompt-box[data-editor="open"] .view-line');
  await look(page, '/c', '.figures', async () => {
    for (const g of ['Session', 'Model', 'Day']) await page.click(`.usage-tools >> text=${g}`).catch(() => undefined);
  });
  await look(page, '/w', '.worker');
  for (const tab of ['Tokens', 'Users', 'Tenants', 'Audit']) await look(page, '/settings', '.settings-tabs', async () => {
    await page.click(`.settings-tabs >> text=${tab}`);
    await page.waitForSelector('.settings-table td');
  });
  assert.deepEqual(faults, []);
  t.diagnostic(`${stored.length} fields held script`);
});

test('events of any shape, from an agent that runs elsewhere, leave the page whole', options, async (t) => {
  const api = await (await fetch(`${url}/openapi.json`)).json();
  const kinds = api.components.schemas.ExternalEvent.properties.event_type.enum.filter((k) => k !== 'session_stop');
  const shapes = [null, true, 7, -1.5, '', 'text', [], {}, [null], [[1]], [{ type: 'text' }, { type: 'text', text: 5 }, { type: 'image', url: 7 }, { type: 'tool_use' }, 'x', null], { text: 7, total: { cost_usd: 'much', turns: null } }, { action: 'key', text: '' }, { action: 'key', text: 'ctrl++' }, { action: 'left_click', coordinate: 'here' }, { command: 'str_replace', path: 7, old_str: null }];
  const id = `shapes-${Date.now()}`;
  await must('POST', '/events', { event_type: 'session_start', session_id: id, session_name: 'Any shape' });
  const FIELDS = { pre_tool: ['tool_input'], post_tool: ['tool_output', 'error'], message: ['content'], thinking: ['content'], usage: ['usage'], log: ['data'], error: ['data', 'content'] };
  const bodies = kinds.flatMap((event_type) => (event_type.endsWith('_tool') ? ['computer', 'bash', 'str_replace_based_edit_tool', 'ask_human', 'done', 'other'] : [undefined]).flatMap((tool_name) =>
    (FIELDS[event_type] ?? ['data']).flatMap((field) => shapes.map((shape, n) => ({ event_type, session_id: id, role: 'assistant', [field]: shape, ...(tool_name ? { tool_name, tool_call_id: `${tool_name}-${n}` } : {}) })))));
  let taken = 0;
  while (bodies.length > 0) {
    for (const r of await Promise.all(bodies.splice(0, 8).map((b) => send('POST', '/events', b)))) {
      assert.ok(r.status < 500, `${r.status} ${JSON.stringify(r.body)}`);
      taken += r.status < 300;
    }
  }
  assert.ok(taken > 100, `${taken} events were taken`);
  await must('POST', '/events', { event_type: 'message', session_id: id, role: 'assistant', content: 'The last word.' });
  const { page, faults } = await open(browser, t);
  await enter(page);
  await page.goto(`${url}/s/${id}`);
  await page.waitForSelector('.prose:has-text("The last word.")', WAIT);
  await page.waitForSelector('.card:has-text("Any shape")');
  // Up to the first of them: every entry is drawn on the way.
  for (const earlier = page.locator('.flow-in > button.plain'); await earlier.count(); ) await page.$eval('.flow', (f) => { f.scrollTop = 0; f.dispatchEvent(new Event('scroll')); });
  assert.deepEqual(await page.$$eval('.fault.small', (l) => l.map((e) => e.textContent)), []);
  await page.goto(`${url}/s/${id}/timeline`);
  await page.waitForSelector('.event');
  await page.click('text=Expand all');
  await page.waitForSelector('.event-json');
  assert.equal(await page.$('.main .blank'), null);
  assert.deepEqual(faults, []);
});
