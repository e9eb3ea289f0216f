// More routes of the FAKE gateway (gateway.mjs): control of sessions, approvals, agents, workers, usage, files of a slot.
// In memory and scripted; it proves nothing about the daemons.
import { randomUUID } from 'node:crypto';

const ENDED = ['finished', 'stopped', 'failed'];
const NAME = /^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$/;
const GIB = 1024 ** 3;

export function moreRoutes({ sessions, emit, setStatus, newSession, all, json, fail, bodyOf, iso, play, refuse }) {
  const agents = new Map();
  const files = new Map(); // session -> Map(path -> Buffer)

  const worker = (n, extra) => ({
    worker_id: `worker-${n}`, state: 'warm', kind: 'desktop', kinds: ['desktop', 'headless'], online: true, draining: false, version: '0.1.0', session_id: null,
    slot: { kind: 'desktop', image: 'desktop', width: 1280, height: 800, state: 'warm', controller: null },
    load: { processes: 14, memory_bytes: 0.41 * GIB, cpu_usec: 91_000_000, memory_kills: 0, fork_refusals: 0 },
    limits: {
      memory: { by: 'cgroup', proven: true, max: 2 * GIB }, cpu: { by: 'cgroup', proven: true, max: 200 }, processes: { by: 'cgroup', proven: true, max: 512 }, disk: { by: 'quota', proven: false, max: 4 * GIB },
      files: { by: 'none', proven: false, max: 200_000 }, open_files: { by: 'rlimit', proven: true, max: 1024 }, network: { by: 'namespace', proven: true, max: 0 },
      identity: { by: 'subuid', proven: true }, sandbox: 'bubblewrap', version: '0.1.0',
    },
    greeted_at: iso(Date.now() - 5_400_000), heartbeat_at: iso(), ...extra,
  });
  const workers = [worker(1, {}), worker(2, { state: 'busy' }), worker(3, { kinds: ['headless'], kind: 'headless', draining: true }), worker(4, { online: false, state: 'cold', heartbeat_at: iso(Date.now() - 900_000) })];

  function agent(b, at = Date.now()) {
    const a = { name: b.name, description: null, system_prompt: null, mcp_servers: null, skills: null, status: 'active', model: null, provider: null, tools: null, approval: {}, slot: null, network: null, budget: null, output_schema: null, ...b, version: 1, created_at: iso(at), updated_at: iso(at) };
    agents.set(a.name, { a, versions: [{ ...a }] });
    return a;
  }
  /** As agent-check.c says it of MCP servers, in part. */
  const badServer = (b) => Array.isArray(b.mcp_servers) && b.mcp_servers.some((s) => !s?.url === !s?.command);
  const serverError = { error: { code: 'bad_request', message: 'an MCP server has either url (reached by the worker) or command (run inside the slot)', field: 'mcp_servers' } };
  const UNKNOWN = (b) => Object.keys(b).find((k) => !['name', 'description', 'system_prompt', 'mcp_servers', 'skills', 'status', 'model', 'provider', 'tools', 'approval', 'slot', 'network', 'budget', 'output_schema'].includes(k));

  async function agentApi(req, res, p) {
    const m = req.method;
    const b = m === 'POST' || m === 'PATCH' ? JSON.parse((await bodyOf(req)).toString()) : {};
    if (refuse()) return fail(res, 503, 'unavailable', 'The coordinator is starting.');
    if (p.length === 1 && m === 'GET') return json(res, 200, { agents: [...agents.values()].map((x) => x.a).sort((x, y) => (x.name < y.name ? -1 : 1)), next_cursor: null });
    if (p.length === 1 && m === 'POST') {
      if (UNKNOWN(b)) return json(res, 400, { error: { code: 'bad_request', message: `There is no field ${UNKNOWN(b)}.`, field: UNKNOWN(b) } });
      if (!NAME.test(b.name ?? '')) return json(res, 400, { error: { code: 'bad_request', message: 'A name has letters, digits and single hyphens.', field: 'name' } });
      if (badServer(b)) return json(res, 400, serverError);
      if (agents.has(b.name)) return json(res, 409, { error: { code: 'conflict', message: 'There is an agent of this name.', field: 'name' } });
      return json(res, 201, agent(b));
    }
    const x = agents.get(p[1]);
    if (!x) return fail(res, 404, 'not_found', 'There is no such agent.');
    if (p[2] === 'versions') return json(res, 200, { versions: [...x.versions].reverse(), next_cursor: null });
    if (m === 'DELETE') return agents.delete(p[1]) && res.writeHead(204).end();
    if (m === 'PATCH') {
      if (UNKNOWN(b)) return fail(res, 400, 'bad_request', `There is no field ${UNKNOWN(b)}.`);
      if (badServer(b)) return json(res, 400, serverError);
      Object.assign(x.a, b, { updated_at: iso() });
      if (p[2] !== 'status') {
        x.a.version += 1;
        x.versions.push({ ...x.a, created_at: x.a.updated_at });
      }
    }
    return json(res, 200, x.a);
  }

  function usage(res, url) {
    const by = url.searchParams.get('group_by') ?? 'day';
    const row = (n) => ({ calls: 12 + n * 7, input_tokens: 42_000 + n * 31_000, output_tokens: 3_100 + n * 900, cache_read_tokens: 20_000 * n, cache_write_tokens: 900 * n, cost_usd: Math.round((0.21 + 0.37 * n) * 1e4) / 1e4 });
    const days = [];
    const end = new Date((url.searchParams.get('to') ?? iso().slice(0, 10)) + 'T00:00:00Z').getTime();
    const start = new Date((url.searchParams.get('from') ?? iso(end - 29 * 86_400_000).slice(0, 10)) + 'T00:00:00Z').getTime();
    for (let t = end, n = 0; t >= start; t -= 86_400_000, n += 1) if (n % 7 !== 5) days.push({ day: iso(t).slice(0, 10), ...row((n * 5) % 9) });
    const rows = {
      day: days, model: ['claude-sonnet-4-5', 'gpt-5-mini'].map((model, i) => ({ model, ...row(9 - 5 * i) })),
      agent: ['ledger', 'watcher', null].map((name, i) => ({ agent: name, ...row(8 - 3 * i) })), session: [...sessions.values()].slice(0, 6).map((s, i) => ({ session: s.session.session_id, ...row(6 - i) })),
    }[by];
    const total = days.reduce((a, b) => Object.fromEntries(Object.keys(a).map((k) => [k, a[k] + b[k]])), { calls: 0, input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0, cost_usd: 0 });
    return json(res, 200, { group_by: by, from: iso(start).slice(0, 10), to: iso(end).slice(0, 10), usage: rows, total });
  }

  async function fileApi(req, res, s, path) {
    const id = s.session.session_id;
    if (!files.has(id)) files.set(id, new Map([['shop/orders.html', Buffer.from('<h1>Orders</h1>')], ['data/orders.csv', Buffer.from('id,total\n1044,1988.00\n')], ['report.md', Buffer.from('# Unpaid orders\n')]]));
    const home = files.get(id);
    if (ENDED.includes(s.session.status) || !s.session.worker_id) return fail(res, 409, 'conflict', 'The session has no slot now: its files are gone with it.');
    if (req.method === 'PUT') {
      home.set(path, await bodyOf(req));
      return res.writeHead(204).end();
    }
    if (req.method === 'DELETE') {
      for (const k of [...home.keys()]) if (k === path || k.startsWith(`${path}/`)) home.delete(k);
      return res.writeHead(204).end();
    }
    const bytes = home.get(path);
    if (bytes) return res.writeHead(200, { 'Content-Type': 'application/octet-stream' }).end(bytes);
    const under = path === '' ? '' : `${path}/`;
    const names = new Map();
    for (const [k, v] of home) {
      if (!k.startsWith(under)) continue;
      const [name, more] = k.slice(under.length).split('/');
      names.set(name, more === undefined ? { name, kind: 'file', size_bytes: v.length, modified_at: iso() } : { name, kind: 'folder', size_bytes: 0, modified_at: iso() });
    }
    if (names.size === 0 && path !== '') return fail(res, 404, 'not_found', 'There is no such file.');
    return json(res, 200, { path, entries: [...names.values()], truncated: false });
  }

  function waits(s, on, question = null, choices = null) {
    Object.assign(s.session, { waiting: { for: on, question }, question: question ? { question, choices: choices ?? [] } : null, pending_approvals: on === 'approval' ? 1 : 0 });
    setStatus(s, 'waiting', `waits for ${on}`);
    s.session.worker_id = 'worker-1';
    all({ type: 'session_updated', session: s.session });
  }
  function ask(s, kind, subject, bound) {
    const approval_id = randomUUID();
    emit(s, 'approval_requested', { approval_id, kind, subject, bound, expires_at: iso(Date.now() + 900_000) });
    waits(s, 'approval');
    return approval_id;
  }
  function go(s) {
    Object.assign(s.session, { waiting: null, question: null, pending_approvals: 0 });
    setStatus(s, 'running');
  }

  async function controlApi(req, res, s, p) {
    const b = JSON.parse((await bodyOf(req)).toString() || '{}');
    if (refuse()) return fail(res, 409, 'conflict', 'The session is not in a state for this.');
    const to = { pause: 'paused', resume: 'running', interrupt: 'idle' }[p[2]];
    if (to) {
      for (const c of s.run?.cancels ?? []) c();
      Object.assign(s.session, { waiting: null, question: null, pending_approvals: 0 });
      setStatus(s, to, `${p[2]} on request`);
      return json(res, 200, s.session);
    }
    if (p[2] === 'approvals') {
      const status = b.decision === 'allow' ? 'allowed' : 'denied';
      emit(s, 'approval_decided', { approval_id: p[3], status, note: b.note ?? '', decided_by: 'admin', scope: b.scope });
      go(s);
      return json(res, 200, { approval_id: p[3], status });
    }
    if (p[2] === 'fork') {
      const f = newSession({ ...s.session, session_name: b.session_name ?? null });
      for (const e of s.events.slice(0, b.after_seq)) emit(f, e.event_type, Object.fromEntries(Object.entries(e).filter(([k]) => !['id', 'seq', 'session_id', 'event_type'].includes(k))));
      setStatus(f, 'idle');
      return json(res, 201, f.session);
    }
    return fail(res, 404, 'not_found', 'There is no such address.');
  }

  /** The right key is sk-right; a base URL on a private address is refused. */
  async function modelApi(req, res) {
    const b = JSON.parse((await bodyOf(req)).toString());
    const trial = (code, message, status) => json(res, 200, { ok: code === 'ok', code, message, model: code === 'ok' ? b.model : null, status, duration_ms: 812, managed: true });
    if (b.base_url && !/^https?:\/\/[^/]/.test(b.base_url)) return json(res, 400, { error: { code: 'bad_request', message: 'base_url must be http:// or https:// with a host.', field: 'base_url' } });
    if (/127\.|localhost|192\.168/.test(b.base_url ?? '')) return trial('address_refused', 'This address is not public. An operator can allow it with the setting egress_private in workerd.conf.', 0);
    if (b.key !== 'sk-right') return trial('key_refused', 'The key was refused: invalid x-api-key', 401);
    return trial('ok', 'The model answered.', 200);
  }

  const lists = {
    tokens: [['laptop', 'operator', 'ann@example.org'], ['ci', 'operator', null], ['prometheus', 'viewer', null]].map(([name, role, user_name], i) => ({ token_id: `t${i}`, name, role, user_name, scopes: name === 'ci' ? ['sessions:write'] : [], last_used_at: iso(Date.now() - 3_600_000 * i), expires_at: null, revoked_at: null })),
    users: [['ann@example.org', 'admin'], ['bo@example.org', 'operator']].map(([name, role]) => ({ name, role, disabled: false, created_at: iso() })),
    tenants: [{ name: 'default', limits: {}, disabled: false }, { name: 'acme', limits: { slots: 2 }, disabled: false }],
    audit: [['POST /sessions', '201'], ['PATCH /agents/{name}', '200'], ['POST /models/test', '200']].map(([action, result], i) => ({ seq: 3 - i, timestamp: iso(Date.now() - 60_000 * i), actor: 'laptop', address: '127.0.0.1', action, target: '', result })),
  };

  /** Answers a request, or says null: it is somebody else's. */
  function route(req, res, url, p) {
    if (p[0] === 'agents') return agentApi(req, res, p);
    if (p[0] === 'workers' && p.length === 1) return json(res, 200, { workers, next_cursor: null });
    if (p[0] === 'workers' && p[2] === 'drain') {
      const w = workers.find((x) => x.worker_id === p[1]);
      if (w) w.draining = true;
      return w ? res.writeHead(204).end() : fail(res, 404, 'not_found', 'There is no such worker.');
    }
    if (p[0] === 'usage') return usage(res, url);
    if (p[0] === 'models' && p[1] === 'test' && req.method === 'POST') return modelApi(req, res);
    if (p[0] === 'me') return json(res, 200, { tenant: 'default', name: 'laptop', role: 'admin', installation: true });
    if (p.length === 1 && p[0] in lists && req.method === 'GET') return json(res, 200, { [p[0]]: lists[p[0]], next_cursor: null });
    const s = p[0] === 'sessions' ? sessions.get(p[1]) : undefined;
    if (s && p[2] === 'files') return fileApi(req, res, s, p.slice(3).join('/'));
    if (s && req.method === 'POST' && ['pause', 'resume', 'interrupt', 'fork', 'approvals'].includes(p[2])) return controlApi(req, res, s, p);
    return null;
  }
  const seed = () => {
    agent({ name: 'ledger', description: 'Keeps the books: reads invoices, totals them, writes reports', model: 'claude-sonnet-4-5', provider: 'anthropic', system_prompt: 'You keep the books of a small yacht charter.\n\n- Check every total twice.\n- Ask before you send anything to a customer.\n', tools: ['bash', 'computer', 'document_put', 'ask_human'], network: { mode: 'none' }, budget: { cost_usd: 2 } }, Date.now() - 9 * 86_400_000);
    agent({ name: 'watcher', description: 'Looks at the status page every hour', status: 'inactive', slot: { kind: 'headless' }, network: { mode: 'allow', allow: ['status.example.com', '*.debian.org'] } }, Date.now() - 3 * 86_400_000);
  };
  return { route, agents, agent, ask, waits, go, files, workers, seed, known: ['agents', 'workers', 'usage', 'models', 'me', 'tokens', 'users', 'tenants', 'audit'] };
}
