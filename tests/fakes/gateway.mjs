// A FAKE of the gateway, for working on the page and for its tests: it keeps everything in memory and plays a script.
// It is no part of Berth and proves nothing about the daemons; tests/web also runs against a real gateway (BERTH_URL).
//   node tests/fakes/gateway.mjs [--port N] [--seed] [--speed X]      prints url: and token: lines
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { moreRoutes } from './gateway-more.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const web = path.resolve(here, '../../web');
const { WebSocketServer } = createRequire(path.join(web, 'package.json'))('ws');
const DEMO = path.resolve(here, '../../examples/demo');

// No wider than gatewayd's own (static.c): what holds here holds there. The editor of prompts needs inline styles and a worker.
const CSP = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2', '.txt': 'text/plain', '.json': 'application/json', '.csv': 'text/csv' };
const SCREENS = [0, 1, 2, 3, 4].map((i) => readFileSync(path.join(here, 'screens', `${i}.png`)));
const DIGESTS = SCREENS.map((s) => createHash('sha256').update(s).digest('hex'));
const W = 1024;
const H = 768;

export async function startFake({ port = 0, seed = false, speed = 1, demo = true } = {}) {
  const token = 'bt_fake_' + randomBytes(12).toString('base64url');
  const tickets = new Set();
  const sessions = new Map(); // id -> {session, events, screen, watchers, viewers, run}
  const documents = new Map();
  const feeds = new Set();
  const sockets = new Set();
  let cursor = 0;
  const stats = { connections: 0 };

  const iso = (t = Date.now()) => new Date(t).toISOString().replace('Z', '000Z');
  const wait = (ms, run) => new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms / speed);
    run?.cancels.add(() => {
      clearTimeout(timer);
      reject(new Error('cancelled'));
    });
  });
  const send = (ws, o) => ws.readyState === 1 && ws.send(typeof o === 'string' ? o : JSON.stringify(o));
  const all = (o) => {
    const text = JSON.stringify(o);
    for (const f of feeds) send(f, text);
  };

  // Sessions and events
  function newSession(b, at = Date.now()) {
    const session = {
      session_id: randomUUID(), session_name: b.session_name ?? null, status: 'queued', created_at: iso(at), modified_at: iso(at), project_dir: b.project_dir ?? null,
      agent_name: b.agent_name ?? null, kind: b.kind ?? 'desktop', model: b.model ?? 'claude-sonnet-4-5', metadata: {}, last_seq: 0, parent_session_id: null, worker_id: null, slot: { kind: b.kind ?? 'desktop', image: 'desktop', width: W, height: H, state: null, controller: null },
      usage: { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cost_usd: 0, turns: 0, seconds: 0 }, budget: {}, error: null, vnc_url: null, stream_url: null,
    };
    const s = { session, events: [], screen: 0, watchers: new Set(), viewers: new Set(), run: null, said: 0 };
    sessions.set(session.session_id, s);
    return s;
  }
  const UPDATE = { thinking: 'thinking', message: 'message', pre_tool: 'tool_use', post_tool: 'tool_result', screenshot: 'screenshot', status: 'status', session_start: 'status', session_stop: 'complete', error: 'error' };
  const asUpdate = (e) => ({ type: UPDATE[e.event_type] ?? e.event_type, ...e });
  function emit(s, event_type, body = {}, at = Date.now()) {
    const e = { id: ++cursor, session_id: s.session.session_id, seq: s.events.length + 1, event_type, timestamp: iso(at), ...body };
    s.events.push(e);
    s.session.last_seq = e.seq;
    s.session.modified_at = e.timestamp;
    for (const w of s.watchers) send(w, asUpdate(e));
    all({ type: 'event', event: e });
    return e;
  }
  function setStatus(s, to, reason = '', at = Date.now()) {
    const from = s.session.status;
    if (from === to) return;
    s.session.status = to;
    const busy = ['starting', 'running', 'idle'].includes(to);
    s.session.slot = { kind: s.session.kind, image: 'desktop', width: W, height: H, state: busy ? 'busy' : null, controller: null };
    s.session.worker_id = busy ? 'worker-1' : null;
    emit(s, 'status', { from, to, reason }, at);
    all({ type: 'session_updated', session: s.session });
    if (!busy) for (const v of s.viewers) v.close(1000);
  }
  const image = (s, n) => ({ type: 'image', media_type: 'image/png', digest: DIGESTS[n], url: `/sessions/${s.session.session_id}/attachments/${DIGESTS[n]}`, width: W, height: H });
  function screen(s, n) {
    s.screen = n;
    for (const v of s.viewers) v.frame?.();
  }
  function say(s, text) {
    return emit(s, 'message', { role: 'user', content: [{ type: 'text', text }], message_id: randomUUID() });
  }

  // The script
  let held = false;
  const standing = [];
  async function deltas(s, turn, block, kind, text, run) {
    for (const part of text.match(/\s*\S+/g) ?? []) {
      do {
        for (const w of s.watchers) send(w, { type: 'delta', session_id: s.session.session_id, turn, block, kind, text: part });
        await wait(18, run);
      } while (held);
    }
  }
  const TURNS = (s) => [
    { think: 'The user wants to know which orders are unpaid. I should look at the screen first, then open the page in the browser.', text: 'I will look at the desktop first.', tool: 'computer', input: { action: 'screenshot' }, screen: 0, ms: 9 },
    { text: 'The desktop is empty. I open the order page.', tool: 'bash', input: { command: 'chromium --app=file:///home/agent/shop/orders.html >/dev/null 2>&1 &\nls -l ~/shop ~/data' }, out: '/home/agent/data:\n-rw-r--r-- 1 agent agent 1984 Nov 20 14:01 orders.csv\n\n/home/agent/shop:\n-rw-r--r-- 1 agent agent 6120 Nov 20 14:01 orders.html', exit: 0, ms: 412, after: 1 },
    { tool: 'computer', input: { action: 'left_click', coordinate: [148, 157] }, screen: 2, ms: 88 },
    { tool: 'computer', input: { action: 'scroll', coordinate: [450, 420], scroll_direction: 'down', scroll_amount: 3 }, screen: 2, ms: 61 },
    { think: 'Five open orders on the page. The CSV should agree; I group by customer there.', text: 'Five orders are open. I check them against the CSV and total them per customer.', tool: 'str_replace_based_edit_tool', input: { command: 'create', path: '/home/agent/unpaid.py', file_text: 'import csv\nfrom collections import defaultdict\n\ntotals = defaultdict(float)\nwith open("data/orders.csv") as f:\n    for row in csv.DictReader(f):\n        if row["status"] == "paid":\n            totals[row["customer"]] += float(row["total"])\n\nfor name, total in sorted(totals.items(), key=lambda t: -t[1]):\n    print(f"{name:18} {total:9.2f}")\n' }, out: 'File created: /home/agent/unpaid.py', ms: 6 },
    { text: 'The comparison is the wrong way round; I correct it.', tool: 'str_replace_based_edit_tool', input: { command: 'str_replace', path: '/home/agent/unpaid.py', old_str: '    for row in csv.DictReader(f):\n        if row["status"] == "paid":\n            totals', new_str: '    for row in csv.DictReader(f):\n        if row["status"] != "paid":\n            totals' }, out: 'The file has been edited.', ms: 5 },
    { tool: 'bash', input: { command: 'python3 unpaid.py && python3 chart.py' }, out: 'Albatros Charter     5310.00\nMarina Costa         3905.20\nNordwind Yachts      1988.00\nBlue Fjord AS        1575.90\nHafen & Söhne        1120.50\nchart written to unpaid.png\n', exit: 0, ms: 1240, after: 3 },
    { tool: 'computer', input: { action: 'type', text: 'xdg-open unpaid.png' }, screen: 3, ms: 240 },
    { tool: 'computer', input: { action: 'key', text: 'Return' }, screen: 4, ms: 97 },
    { text: 'The chart is right. I store it and a short report.', tool: 'document_put', input: { path: '/home/agent/report.md', filename: 'unpaid-orders.md', tags: ['demo', 'report'], description: 'Open orders by customer' }, put: true, ms: 31 },
    { text: '**Five orders are unpaid, €13,899.60 in total.**\n\n| Customer | Unpaid (€) | Oldest |\n| --- | ---: | ---: |\n| Albatros Charter | 5,310.00 | 18 days |\n| Marina Costa | 3,905.20 | 12 days |\n| Nordwind Yachts | 1,988.00 | 6 days |\n| Blue Fjord AS | 1,575.90 | 4 days |\n| Hafen & Söhne | 1,120.50 | 21 days |\n\nTwo things to act on:\n\n1. **Albatros Charter** owes 38 % of the sum; a reminder is due.\n2. **Hafen & Söhne** is the oldest, three days past its term.\n\nThe chart `unpaid.png` and the report `unpaid-orders.md` are in Documents, tagged `demo`.' },
  ];
  const REPORT = '# Unpaid orders\n\nFive orders, **€13,899.60** in total.\n\n| Customer | Unpaid (€) |\n| --- | ---: |\n| Albatros Charter | 5,310.00 |\n| Marina Costa | 3,905.20 |\n| Nordwind Yachts | 1,988.00 |\n\n- Source: `data/orders.csv`\n- Made by the demo session\n';
  async function play(s, { fast = false, at = Date.now() } = {}) {
    const run = { cancels: new Set(), stopped: false };
    s.run = run;
    const pause = (ms) => (fast ? Promise.resolve() : wait(ms, run));
    let t = at;
    const tick = (ms) => (fast ? (t += ms) : Date.now());
    try {
      await pause(250);
      setStatus(s, 'starting', 'slot worker-1', tick(200));
      await pause(500);
      setStatus(s, 'running', '', tick(700));
      for (const [turn, step] of TURNS(s).entries()) {
        const content = [];
        if (step.think) {
          if (!fast) await deltas(s, turn, 0, 'thinking', step.think, run);
          emit(s, 'thinking', { content: step.think }, tick(900));
          content.push({ type: 'thinking', thinking: step.think, signature: 'c2ln' });
        }
        if (step.text) {
          if (!fast) await deltas(s, turn, 1, 'text', step.text, run);
          content.push({ type: 'text', text: step.text });
        }
        const callId = 'toolu_' + randomBytes(9).toString('hex');
        if (step.tool) {
          if (!fast) await deltas(s, turn, 2, 'tool_input', JSON.stringify(step.input), run);
          content.push({ type: 'tool_use', id: callId, name: step.tool, input: step.input });
        }
        emit(s, 'message', { role: 'assistant', content, message_id: randomUUID(), model: s.session.model, stop_reason: step.tool ? 'tool_use' : 'end_turn' }, tick(1200));
        const u = s.session.usage;
        u.input_tokens += 2100 + 640 * turn;
        u.output_tokens += 90 + (step.text?.length ?? 0);
        u.cache_read_tokens += 1500;
        u.cost_usd = Math.round((u.cost_usd + 0.0113) * 1e6) / 1e6;
        u.turns += 1;
        emit(s, 'usage', { usage: { input_tokens: 2100, output_tokens: 120 }, total: { ...u }, model: s.session.model }, tick(5));
        if (!step.tool) break;
        emit(s, 'pre_tool', { tool_call_id: callId, tool_name: step.tool, tool_input: step.input, epoch: 1 }, tick(10));
        if (step.tool === 'bash' && !fast) {
          for (const line of (step.out ?? '').match(/.*\n|.+$/g) ?? []) {
            for (const w of s.watchers) send(w, { type: 'delta', session_id: s.session.session_id, kind: 'tool_output', tool_call_id: callId, stream: 'stdout', text: line });
            await wait(60, run);
          }
        }
        await pause(Math.min(900, 250 + (step.ms ?? 0)));
        const output = [];
        if (step.out !== undefined) output.push({ type: 'text', text: step.out });
        if (step.screen !== undefined) {
          screen(s, step.screen);
          output.push(image(s, step.screen));
          emit(s, 'screenshot', { tool_call_id: callId, url: image(s, step.screen).url, width: W, height: H, media_type: 'image/png' }, tick(10));
        }
        if (step.after !== undefined) screen(s, step.after);
        if (step.put) {
          putDocument('unpaid.png', 'image/png', SCREENS[4], ['demo', 'chart'], {});
          const d = putDocument('unpaid-orders.md', 'text/markdown', Buffer.from(REPORT), ['demo', 'report'], { description: 'Open orders by customer' });
          output.push({ type: 'text', text: JSON.stringify({ document_id: d.id, filename: d.filename }) });
        }
        emit(s, 'post_tool', { tool_call_id: callId, tool_name: step.tool, tool_output: output, error: null, ...(step.exit === undefined ? {} : { exit_code: step.exit }), duration_ms: step.ms }, tick(step.ms ?? 5));
        await pause(150);
      }
      setStatus(s, 'finished', 'the agent has answered', tick(100));
    } catch {
      // Stopped by a person: the caller sets the status.
    }
    s.run = null;
  }
  function stop(s) {
    for (const c of s.run?.cancels ?? []) c();
    setStatus(s, 'stopped', 'stopped by a person');
    emit(s, 'session_stop', { reason: 'stop' });
  }

  // Documents
  function putDocument(filename, content_type, data, tags, metadata) {
    const at = iso();
    const d = { id: randomUUID(), filename, content_type, size_bytes: data.length, created_at: at, updated_at: at, tags, metadata, url: '', checksum: createHash('sha256').update(data).digest('hex'), version: 1 };
    d.url = `/documents/${d.id}`;
    documents.set(d.id, { d, data });
    return d;
  }
  function parseMultipart(body, type) {
    const boundary = Buffer.from('--' + (/boundary="?([^";]+)/.exec(type)?.[1] ?? ''));
    const parts = {};
    let at = body.indexOf(boundary);
    while (at >= 0) {
      const next = body.indexOf(boundary, at + boundary.length);
      if (next < 0) break;
      const part = body.subarray(at + boundary.length + 2, next - 2);
      const cut = part.indexOf('\r\n\r\n');
      const head = part.subarray(0, cut).toString();
      const name = /name="([^"]*)"/.exec(head)?.[1];
      parts[name] = { filename: /filename="([^"]*)"/.exec(head)?.[1], type: /content-type: *(.+)/i.exec(head)?.[1] ?? 'application/octet-stream', data: part.subarray(cut + 4) };
      at = next;
    }
    return parts;
  }

  // HTTP
  const json = (res, status, o) => {
    const text = o === undefined ? '' : JSON.stringify(o);
    res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }).end(text);
  };
  const fail = (res, status, code, message) => json(res, status, { error: { code, message } });
  const bodyOf = async (req) => {
    const parts = [];
    for await (const c of req) parts.push(c);
    return Buffer.concat(parts);
  };
  function file(res, name, extra = {}) {
    if (!existsSync(name)) return false;
    const gz = existsSync(name + '.gz');
    res.writeHead(200, { 'Content-Type': TYPES[path.extname(name)] ?? 'application/octet-stream', 'Content-Security-Policy': CSP, 'X-Content-Type-Options': 'nosniff', ...(gz ? { 'Content-Encoding': 'gzip' } : {}), ...extra });
    res.end(readFileSync(gz ? name + '.gz' : name));
    return true;
  }
  const spend = (url) => {
    const t = url.searchParams.get('token');
    return t !== null && tickets.delete(t);
  };

  let refusing = false;
  const more = moreRoutes({ sessions, emit, setStatus, newSession, all, json, fail, bodyOf, iso, play, refuse: () => refusing });

  async function api(req, res, url, p) {
    const m = req.method;
    const answered = more.route(req, res, url, p);
    if (answered !== null) return answered;
    if (p[0] === 'tickets' && m === 'POST') {
      await bodyOf(req);
      const t = randomBytes(18).toString('base64url');
      tickets.add(t);
      return json(res, 200, { ticket: t, expires_in: 30 });
    }
    if (p[0] === 'ready') return json(res, 200, { ready: true, database: true, coordinator: true, workers: 2 });
    if (p[0] === 'status') return json(res, 200, { demo, model: demo ? 'scripted-demo' : 'claude-sonnet-4-5', daemons: ['gatewayd', 'coordinatord', 'docserverd', 'workerd@1', 'workerd@2'].map((name) => ({ name, version: '0.1.0', ok: true })),
      warm: [{ kind: 'desktop', image: null, target: 2, ready: 1, making: 1, why: '1 being made' }, { kind: 'headless', image: 'code-12', target: 1, ready: 1, making: 0, why: null }] });
    if (p[0] === 'demo') {
      const f = path.join(DEMO, ...p.slice(1));
      return f.startsWith(DEMO) && file(res, f) ? undefined : fail(res, 404, 'not_found', 'No such file.');
    }
    if (p[0] === 'sessions') return sessionApi(req, res, url, p);
    if (p[0] === 'documents') return documentApi(req, res, url, p);
    return fail(res, 404, 'not_found', 'There is no such address.');
  }

  async function sessionApi(req, res, url, p) {
    const m = req.method;
    if (p.length === 1 && m === 'GET') return json(res, 200, { sessions: [...sessions.values()].map((s) => s.session), next_cursor: null });
    if (p.length === 1 && m === 'POST') {
      const b = JSON.parse((await bodyOf(req)).toString() || '{}');
      const s = newSession(b);
      emit(s, 'session_start', {});
      all({ type: 'session_updated', session: s.session });
      json(res, 201, s.session);
      if (b.message) {
        say(s, b.message);
        void play(s);
      }
      return undefined;
    }
    const s = sessions.get(p[1]);
    if (!s) return fail(res, 404, 'not_found', 'There is no such session.');
    if (p.length === 2 && m === 'GET') return json(res, 200, s.session);
    if (p.length === 2 && m === 'DELETE') {
      for (const c of s.run?.cancels ?? []) c();
      sessions.delete(p[1]);
      all({ type: 'session_deleted', session_id: p[1] });
      return res.writeHead(204).end();
    }
    if (p[2] === 'metadata' && m === 'PATCH') {
      const b = JSON.parse((await bodyOf(req)).toString());
      if (refusing) return fail(res, 409, 'conflict', 'The session is not in a state for this.');
      Object.assign(s.session, b, b.budget ? { budget: { ...s.session.budget, ...b.budget } } : {});
      if (b.budget && s.session.waiting?.for === 'budget') more.go(s);
      all({ type: 'session_updated', session: s.session });
      return json(res, 200, s.session);
    }
    if (p[2] === 'stop' && m === 'POST') {
      if (refusing) return fail(res, 409, 'conflict', 'The session is not in a state for this.');
      if (['finished', 'stopped', 'failed'].includes(s.session.status)) return fail(res, 409, 'conflict', 'The session has ended already.');
      stop(s);
      return json(res, 200, { success: true, session_id: p[1], message: 'Session stopped successfully' });
    }
    if (p[2] === 'messages' && m === 'POST') {
      const b = JSON.parse((await bodyOf(req)).toString());
      const e = say(s, b.content);
      if (s.session.status === 'waiting') more.go(s);
      if (!s.run) void play(s);
      return json(res, 202, { message_id: e.message_id, session_id: p[1], seq: e.seq });
    }
    if (p[2] === 'screenshot') return s.session.kind === 'desktop' && s.session.status !== 'queued' ? res.writeHead(200, { 'Content-Type': 'image/png' }).end(SCREENS[s.screen]) : fail(res, 404, 'not_found', 'No picture yet.');
    if (p[2] === 'attachments') {
      const i = DIGESTS.indexOf(p[3]);
      return i < 0 ? fail(res, 404, 'not_found', 'No such picture.') : res.writeHead(200, { 'Content-Type': 'image/png' }).end(SCREENS[i]);
    }
    return fail(res, 404, 'not_found', 'There is no such address.');
  }

  async function documentApi(req, res, url, p) {
    const m = req.method;
    if (p.length === 1 && m === 'POST') {
      const parts = parseMultipart(await bodyOf(req), req.headers['content-type'] ?? '');
      if (!parts.file) return fail(res, 400, 'bad_request', 'The part "file" is missing.');
      const tags = (parts.tags?.data.toString() ?? '').split(',').filter(Boolean);
      return json(res, 201, putDocument(parts.file.filename, parts.file.type, parts.file.data, tags, {}));
    }
    if (p.length === 1) {
      const name = (url.searchParams.get('filename') ?? '').toLowerCase();
      const tags = (url.searchParams.get('tags') ?? '').split(',').filter(Boolean);
      const offset = Number(url.searchParams.get('offset') ?? 0);
      const list = [...documents.values()].map((x) => x.d).filter((d) => d.filename.toLowerCase().includes(name) && tags.every((t) => d.tags.includes(t))).reverse();
      return json(res, 200, { documents: list.slice(offset, offset + Number(url.searchParams.get('limit') ?? 100)), total: list.length });
    }
    if (p[1] === 'search') {
      const words = (url.searchParams.get('q') ?? '').toLowerCase();
      const tags = (url.searchParams.get('tags') ?? '').split(',').filter(Boolean);
      const html = (s) => s.replace(/[&<>"']/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[c]);
      const results = [...documents.values()].filter(({ d }) => tags.every((t) => d.tags.includes(t))).flatMap(({ d, data }) => {
        const passage = data.toString().slice(0, 600);
        const at = passage.toLowerCase().indexOf(words);
        if (at < 0 && !d.filename.toLowerCase().includes(words)) return [];
        const highlight = at < 0 ? '' : `${html(passage.slice(0, at))}<mark>${html(passage.slice(at, at + words.length))}</mark>${html(passage.slice(at + words.length))}`;
        return [{ id: d.id, filename: d.filename, content_type: d.content_type, page: null, passage: at < 0 ? null : passage, highlight, score: 1, version: 1, document: d }];
      });
      return json(res, 200, { results, mode: 'text', next_cursor: null });
    }
    if (p[1] === 'ask') {
      const { question } = JSON.parse((await bodyOf(req)).toString());
      const { d, data } = [...documents.values()].at(-1);
      const sources = [{ id: d.id, filename: d.filename, page: 2, passage: data.toString().slice(0, 300), score: 0.5, cited: true, version: 1 }];
      const answer = question.includes('nothing') ? { answer: 'The documents do not answer this question.', found: false, sources: [] } : { answer: 'Forty-two <b>[1]</b> [1].', found: true, sources };
      if (!req.headers.accept?.includes('text/event-stream')) return json(res, 200, answer);
      res.writeHead(200, { 'Content-Type': 'text/event-stream' });
      const push = (event, o) => res.write(`event: ${event}\ndata: ${JSON.stringify(o)}\n\n`);
      const stand = () => (held ? new Promise((done) => standing.push(done)) : undefined);
      push('sources', { sources });
      await stand();
      push('delta', { text: 'Thirteen' });
      await stand();
      push('restart', {});
      push('delta', { text: 'Forty' });
      push('delta', { text: '-two <b>' });
      await stand();
      if (question.includes('cut')) return res.destroy();
      push(...(question.includes('broken') ? ['error', { error: { code: 'unavailable', message: 'The model did not answer.' } }] : ['answer', answer]));
      return res.end();
    }
    if (p[1] === 'tags' && p[2] === 'edit') {
      const b = JSON.parse((await bodyOf(req)).toString());
      for (const id of b.ids) {
        const { d } = documents.get(id);
        d.tags = [...new Set([...d.tags, ...(b.add ?? [])])].filter((t) => !b.remove?.includes(t)).sort();
      }
      return json(res, 200, { updated: b.ids.length, missing: [] });
    }
    if (p[1] === 'tags' && p.length === 2) {
      const n = {};
      for (const { d } of documents.values()) for (const t of d.tags) n[t] = (n[t] ?? 0) + 1;
      return json(res, 200, { tags: Object.entries(n).map(([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1)) });
    }
    const x = documents.get(p[1]);
    if (!x) return fail(res, 404, 'not_found', 'There is no such document.');
    if (p[2] === 'metadata') return json(res, 200, x.d);
    if (p[2] === 'text') return json(res, 200, { text_status: 'ready', text: x.data.toString() });
    if (p[2] === 'versions') return json(res, 200, { versions: [{ version: 1, checksum: x.d.checksum, size_bytes: x.d.size_bytes, content_type: x.d.content_type, created_at: x.d.created_at, url: `${x.d.url}?version=1` }] });
    if (p[2] === 'relations') {
      x.relations ??= [];
      if (m === 'POST') {
        const b = JSON.parse((await bodyOf(req)).toString());
        x.relations.push({ kind: b.kind, document_id: b.document_id, filename: documents.get(b.document_id).d.filename });
      }
      if (m === 'DELETE') x.relations = x.relations.filter((r) => r.document_id !== url.searchParams.get('document_id'));
      return m === 'DELETE' ? res.writeHead(204).end() : json(res, m === 'POST' ? 201 : 200, { relations: x.relations });
    }
    if (m === 'PATCH') {
      const b = JSON.parse((await bodyOf(req)).toString());
      if (refusing) return fail(res, 503, 'unavailable', 'The document service is starting.');
      if (b.tags) x.d.tags = b.tags;
      if (b.filename) x.d.filename = b.filename;
      if (b.description !== undefined) x.d.metadata = { ...x.d.metadata, description: b.description };
      x.d.updated_at = iso();
      return json(res, 200, x.d);
    }
    if (m === 'DELETE') {
      documents.delete(p[1]);
      return res.writeHead(204).end();
    }
    return res.writeHead(200, { 'Content-Type': x.d.content_type, 'Content-Disposition': `attachment; filename="${x.d.filename}"` }).end(x.data);
  }

  const server = createServer(async (req, res) => {
    try {
      const url = new URL(req.url, 'http://x');
      const p = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
      if (url.pathname === '/__fake/drop' && req.method === 'POST') {
        for (const s of sockets) s.terminate();
        return json(res, 200, stats);
      }
      const known = ['tickets', 'ready', 'status', 'sessions', 'documents', ...more.known];
      if (known.includes(p[0]) || p[0] === 'demo') {
        const ok = p[0] === 'demo' || req.headers.authorization === `Bearer ${token}` || spend(url);
        if (!ok) return fail(res, 401, 'unauthorized', 'This needs a valid token.');
        return await api(req, res, url, p);
      }
      if (p[0] === 'assets') return file(res, path.join(web, 'dist/assets', path.basename(p[1] ?? '')), { 'Cache-Control': 'public, max-age=31536000, immutable' }) || fail(res, 404, 'not_found', 'No such file.');
      if (p[0] === 'reference.html') return file(res, path.join(web, 'dist/reference.html'));
      return file(res, path.join(web, 'dist/index.html')) || fail(res, 404, 'not_found', 'Build the page first.');
    } catch (e) {
      console.error(e);
      return res.headersSent ? res.end() : fail(res, 500, 'internal', String(e));
    }
  });

  // WebSockets
  const wss = new WebSocketServer({ noServer: true, handleProtocols: (set) => (set.has('binary') ? 'binary' : false) });
  server.on('upgrade', (req, socket, head) => {
    const url = new URL(req.url, 'http://x');
    const p = url.pathname.split('/').filter(Boolean);
    if (!spend(url)) return socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n');
    const s = sessions.get(p[1]);
    if (p[0] !== 'ws' && !s) return socket.end('HTTP/1.1 404 Not Found\r\n\r\n');
    return wss.handleUpgrade(req, socket, head, (ws) => {
      stats.connections += 1;
      sockets.add(ws);
      ws.on('close', () => sockets.delete(ws));
      if (p[0] === 'ws') feed(ws, url);
      else if (p[2] === 'stream') stream(ws, s, url);
      else if (p[2] === 'vnc') vnc(ws, s);
      else ws.close(1008);
    });
  });
  function feed(ws, url) {
    send(ws, { type: 'init', sessions: [...sessions.values()].map((s) => s.session), cursor });
    const after = url.searchParams.get('after');
    if (after !== null) for (const e of [...sessions.values()].flatMap((s) => s.events).filter((e) => e.id > Number(after)).sort((a, b) => a.id - b.id)) send(ws, { type: 'event', event: e });
    feeds.add(ws);
    pongs(ws);
    ws.on('close', () => feeds.delete(ws));
  }
  function stream(ws, s, url) {
    for (const e of s.events.slice(Number(url.searchParams.get('after_seq') ?? 0))) send(ws, asUpdate(e));
    s.watchers.add(ws);
    pongs(ws);
    ws.on('close', () => s.watchers.delete(ws));
  }
  function pongs(ws) {
    ws.on('message', (m) => JSON.parse(m).type === 'ping' && send(ws, { type: 'pong' }));
  }
  /** RFB 3.8 with security None; each frame is one rectangle in TightPNG. */
  function vnc(ws, s) {
    let buffer = Buffer.alloc(0);
    let phase = 0;
    let asked = false;
    let sent = -1;
    const frame = () => {
      if (!asked || sent === s.screen) return;
      asked = false;
      sent = s.screen;
      const png = SCREENS[s.screen];
      const head = Buffer.alloc(4 + 12 + 1 + 3);
      head.writeUInt16BE(1, 2);
      head.writeUInt16BE(W, 8);
      head.writeUInt16BE(H, 10);
      head.writeInt32BE(-260, 12);
      head[16] = 0xa0;
      head[17] = (png.length & 0x7f) | 0x80;
      head[18] = ((png.length >> 7) & 0x7f) | 0x80;
      head[19] = png.length >> 14;
      ws.send(Buffer.concat([head, png]));
    };
    ws.frame = frame;
    s.viewers.add(ws);
    ws.on('close', () => s.viewers.delete(ws));
    ws.send(Buffer.from('RFB 003.008\n'));
    const take = (n) => {
      if (buffer.length < n) return null;
      const b = buffer.subarray(0, n);
      buffer = buffer.subarray(n);
      return b;
    };
    const SIZE = { 0: 20, 3: 10, 4: 8, 5: 6 };
    ws.on('message', (data) => {
      buffer = Buffer.concat([buffer, data]);
      for (;;) {
        if (phase === 0) {
          if (!take(12)) return;
          ws.send(Buffer.from([1, 1]));
          phase = 1;
        } else if (phase === 1) {
          if (!take(1)) return;
          ws.send(Buffer.alloc(4));
          phase = 2;
        } else if (phase === 2) {
          if (!take(1)) return;
          const init = Buffer.alloc(24 + 5);
          init.writeUInt16BE(W, 0);
          init.writeUInt16BE(H, 2);
          Buffer.from([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0]).copy(init, 4);
          init.writeUInt32BE(5, 20);
          init.write('berth', 24);
          ws.send(init);
          phase = 3;
        } else {
          if (buffer.length < 4) return;
          const type = buffer[0];
          const size = type === 2 ? 4 + 4 * buffer.readUInt16BE(2) : type === 6 ? (buffer.length < 8 ? 8 : 8 + Math.abs(buffer.readInt32BE(4))) : (SIZE[type] ?? buffer.length);
          const msg = take(size);
          if (!msg) return;
          if (type === 3) {
            asked = true;
            if (msg[1] === 0) sent = -1;
            frame();
          }
        }
      }
    });
  }

  if (seed) {
    more.seed();
    const ago = (min) => Date.now() - min * 60_000;
    const mk = async (name, min, extra, end) => {
      const s = newSession({ session_name: name, ...extra }, ago(min));
      emit(s, 'session_start', {}, ago(min));
      emit(s, 'message', { role: 'user', content: [{ type: 'text', text: 'Find the unpaid orders and write a short report.' }], message_id: randomUUID() }, ago(min));
      await play(s, { fast: true, at: ago(min) });
      s.session.status = end ?? s.session.status;
      return s;
    };
    putDocument('orders.csv', 'text/csv', readFileSync(path.join(DEMO, 'files/orders.csv')), ['demo', 'orders'], {});
    putDocument('orders.html', 'text/html', readFileSync(path.join(DEMO, 'files/orders.html')), ['demo', 'shop'], {});
    putDocument('terms.json', 'application/json', Buffer.from('{"net_days":14,"reminder":{"after_days":3,"fee_eur":5},"customers":["Albatros","Marina Costa"]}'), ['finance'], { description: 'Payment terms' });
    await mk('Reconcile October invoices', 190, { agent_name: 'ledger' });
    await mk('Crawl the status page', 64, { kind: 'headless', agent_name: 'watcher' }, 'failed');
    await mk('Nightly price check', 31, { kind: 'headless' }, 'stopped');
    await mk('Translate the onboarding guide', 12, {});
    for (const s of sessions.values()) s.session.modified_at = iso(s.events.at(-1) ? Date.parse(s.events.at(-1).timestamp) : Date.now());
  }

  await new Promise((r) => server.listen(port, '127.0.0.1', r));
  const url = `http://127.0.0.1:${server.address().port}`;
  return {
    url, token, stats, sessions, documents,
    drop: () => sockets.forEach((s) => s.terminate()),
    /** Stops listening and cuts everybody off; resume() listens again at the same port. */
    suspend: () => new Promise((r) => {
      sockets.forEach((s) => s.terminate());
      server.closeAllConnections();
      server.close(r);
    }),
    resume: () => new Promise((r) => server.listen(new URL(url).port, '127.0.0.1', r)),
    create: (b, opts) => {
      const s = newSession(b);
      emit(s, 'session_start', {});
      if (b.message) say(s, b.message);
      return { s, done: play(s, opts) };
    },
    emit, newSession, setStatus, more,
    /** Control, budgets and agents are refused while it is on: what was shown as done must be taken back. */
    refuse: (on) => { refusing = on; },
    /** Runs go on saying the same until go(): a test looks at what is live as long as it needs to. */
    hold: () => { held = true; },
    go: () => {
      held = false;
      for (const done of standing.splice(0)) done();
    },
    /** While held: what stands goes one step. */
    step: () => standing.shift()?.(),
    close: () => new Promise((r) => {
      for (const s of sessions.values()) for (const c of s.run?.cancels ?? []) c();
      sockets.forEach((s) => s.terminate());
      server.closeAllConnections();
      server.close(r);
    }),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const arg = (name, other) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : other);
  const fake = await startFake({ port: Number(arg('--port', 8799)), seed: process.argv.includes('--seed'), speed: Number(arg('--speed', 1)), demo: !process.argv.includes('--model') });
  console.log(`FAKE gateway, scripted, in memory\nurl: ${fake.url}\ntoken: ${fake.token}\nlink: ${fake.url}/#token=${fake.token}`);
}
