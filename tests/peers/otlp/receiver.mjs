// A collector for tests: takes OTLP over HTTP as JSON and decodes it with the protocol's own message types (those that
// @opentelemetry/otlp-transformer was generated with). A field they do not know, a wrong type, or an id that is not hex of the
// right length makes a batch wrong: it is answered 400 and kept under /problems.
// GET /spans: what came, flat. GET /state: counts. POST /mode {"status", "times", "retry_after", "reject", "hang"}: how to answer next.
import http from 'node:http';
import { createRequire } from 'node:module';

const root = createRequire(import.meta.url)('@opentelemetry/otlp-transformer/build/src/generated/root.js');
const Request = root.opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest;
const lengths = { traceId: 16, spanId: 8, parentSpanId: 8 };
const state = { requests: 0, batches: 0, headers: {} };
let spans = [], problems = [], mode = { times: 0 };

// The JSON mapping of OTLP differs from that of protobuf in one thing: ids are hex, not base64.
function bytes(value, path) {
  if (Array.isArray(value)) return value.map((v, i) => bytes(v, `${path}[${i}]`));
  if (value === null || typeof value !== 'object') return value;
  const out = {};
  for (const [key, v] of Object.entries(value)) {
    if (key in lengths) {
      if (typeof v !== 'string' || v.length !== 2 * lengths[key] || !/^[0-9a-f]+$/.test(v) || /^0+$/.test(v)) throw Error(`${path}.${key}: ${v}`);
      out[key] = Buffer.from(v, 'hex');
    } else {
      if (/UnixNano$|^intValue$/.test(key) && !/^[0-9]+$/.test(typeof v === 'string' ? v : '')) throw Error(`${path}.${key} must be a decimal string: ${v}`);
      out[key] = bytes(v, `${path}.${key}`);
    }
  }
  return out;
}

// Everything that was sent must be there after encoding and decoding.
function same(sent, got, path) {
  if (Buffer.isBuffer(sent)) {
    if (!Buffer.from(got).equals(sent)) throw Error(`${path} was lost`);
  } else if (Array.isArray(sent)) {
    if (!Array.isArray(got) ? sent.length > 0 : got.length !== sent.length) throw Error(`${path}: ${sent.length} members were sent`);
    sent.forEach((v, i) => same(v, got[i], `${path}[${i}]`));
  } else if (sent !== null && typeof sent === 'object') {
    for (const [key, v] of Object.entries(sent)) {
      if (got === undefined || !(key in got)) throw Error(`${path}.${key} is not of the protocol`);
      same(v, got[key], `${path}.${key}`);
    }
  } else if (String(sent) !== String(got)) throw Error(`${path}: ${sent} became ${got}`);
}

function decode(text) {
  const sent = bytes(JSON.parse(text), 'request');
  const wrong = Request.verify({ ...sent });
  if (wrong && !/Nano|intValue/.test(wrong)) throw Error(wrong); // verify() wants numbers where JSON has strings
  const got = Request.toObject(Request.decode(Request.encode(Request.fromObject(sent)).finish()), { longs: String, bytes: Buffer, defaults: true });
  same(sent, got, 'request');
  return got;
}

const plain = list => Object.fromEntries((list ?? []).map(a => [a.key, typed(a.value)]));
function typed(v) {
  const raw = root.opentelemetry.proto.common.v1.AnyValue.fromObject(v);
  return raw.value === 'intValue' ? Number(raw.intValue) : raw[raw.value];
}

function take(text) {
  for (const r of Request.toObject(Request.fromObject(bytes(JSON.parse(text), 'request')), { longs: String, bytes: Buffer }).resourceSpans)
    for (const scope of r.scopeSpans)
      for (const s of scope.spans)
        spans.push({ service: plain(r.resource.attributes)['service.name'], resource: plain(r.resource.attributes), scope: scope.scope.name, trace: s.traceId.toString('hex'),
          span: s.spanId.toString('hex'), parent: s.parentSpanId?.toString('hex') ?? null, name: s.name, kind: s.kind, start: s.startTimeUnixNano, end: s.endTimeUnixNano,
          attributes: plain(s.attributes), status: s.status?.code ?? 0, message: s.status?.message ?? '' });
}

function answer(res, status, body, headers = {}) {
  res.writeHead(status, { 'Content-Type': 'application/json', ...headers });
  res.end(JSON.stringify(body));
}

http.createServer((req, res) => {
  let text = '';
  req.setEncoding('utf8').on('data', d => { text += d; }).on('end', () => {
    if (req.method === 'GET') return answer(res, 200, { '/spans': spans, '/problems': problems, '/state': state }[req.url] ?? {});
    if (req.url === '/mode') { mode = JSON.parse(text); return answer(res, 200, {}); }
    state.requests++;
    state.headers = req.headers;
    if (mode.hang) return;
    if (mode.times > 0) {
      mode.times--;
      return answer(res, mode.status, {}, mode.retry_after === undefined ? {} : { 'Retry-After': String(mode.retry_after) });
    }
    try {
      if (req.url !== '/v1/traces' || req.method !== 'POST') throw Error(`${req.method} ${req.url}`);
      if (req.headers['content-type'] !== 'application/json') throw Error(`Content-Type ${req.headers['content-type']}`);
      decode(text);
      take(text);
    } catch (e) {
      problems.push(String(e));
      return answer(res, 400, { code: 3, message: String(e) });
    }
    state.batches++;
    answer(res, 200, mode.reject ? { partialSuccess: { rejectedSpans: String(mode.reject), errorMessage: 'as told' } } : {});
  });
}).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
