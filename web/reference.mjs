// The API reference, written from gatewayd/openapi.json: one page of plain HTML that reads without a script. build.mjs puts it into dist/.
const METHODS = ['get', 'post', 'put', 'patch', 'delete'];
const GROUPS = {
  sessions: 'Sessions', streams: 'Streams', events: 'Events', approvals: 'Approvals', agents: 'Agents', documents: 'Documents', uploads: 'Uploads and logs', usage: 'Usage and budgets',
  people: 'People and tokens', operation: 'Operation',
};
const LIMITS = [
  ['minLength', 'at least %s characters'], ['maxLength', 'at most %s characters'], ['minimum', 'from %s'], ['maximum', 'to %s'], ['minItems', 'at least %s'], ['maxItems', 'at most %s'], ['pattern', 'like %s'],
];

const html = (s) => String(s).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const code = (s, kind = '') => `<code${kind && ` class="${kind}"`}>${html(s)}</code>`;
const say = (s) => html(s).replace(/`([^`]+)`/g, '<code>$1</code>');
const sentence = (s) => (s ? say(s[0].toUpperCase() + s.slice(1)) : '');
const nameOf = (ref) => ref.slice(ref.lastIndexOf('/') + 1);
export const operationId = (method, path) => `${method}-${path.replace(/[^a-z_]+/gi, '-').replace(/^-|-$/g, '')}`;

/** A schema in a few words: "string", "array of Session", "integer or null". */
function type(s) {
  if (!s || Object.keys(s).length === 0) return 'any JSON';
  if (s.$ref) return `<a href="#schema-${html(nameOf(s.$ref))}">${html(nameOf(s.$ref))}</a>`;
  if (s.const !== undefined) return code(JSON.stringify(s.const));
  const some = s.anyOf ?? s.oneOf;
  if (some) return some.map(type).join(' or ');
  if (s.enum) return s.enum.map((v) => code(v)).join(' <i>or</i> ');
  if (s.contentEncoding) return 'bytes';
  if (s.type === 'array') return `array of ${type(s.items)}`;
  return html(Array.isArray(s.type) ? s.type.join(' or ') : s.format ? `${s.type}, ${s.format}` : (s.type ?? 'object'));
}

function limits(s) {
  const said = LIMITS.filter(([k]) => s?.[k] !== undefined).map(([k, text]) => html(text.replace('%s', s[k])));
  if (s?.default !== undefined) said.push(`default ${code(JSON.stringify(s.default))}`);
  return said.join(', ');
}

/** The object whose members are worth a table, through "or null" and arrays. */
function inner(s) {
  if (!s || s.$ref) return undefined;
  if (s.properties && Object.keys(s.properties).length) return s;
  if (s.items) return inner(s.items);
  for (const one of s.anyOf ?? s.oneOf ?? []) {
    const found = inner(one);
    if (found) return found;
  }
  return undefined;
}

function members(s) {
  const rows = Object.entries(s.properties).map(([name, p]) => {
    const below = inner(p);
    const text = p.description ?? (p.anyOf ?? []).find((o) => o.description)?.description;
    const more = [sentence(text), limits(p)].filter(Boolean).join('; ');
    return `<div class="member"><dt>${code(name)}${s.required?.includes(name) ? '<b>required</b>' : ''}<span>${type(p)}</span></dt><dd>${more ? `<p>${more}</p>` : ''}${below ? members(below) : ''}</dd></div>`;
  });
  return `<dl class="members">${rows.join('')}</dl>`;
}

/** @param all schemas, to show the members of a named one, too */
const content = (c, all) =>
  Object.entries(c ?? {}).map(([media, { schema }]) => {
    const below = inner(all && schema?.$ref ? all[nameOf(schema.$ref)] : schema);
    return `<p class="media">${code(media)} ${schema ? type(schema) : ''}</p>${schema?.description ? `<p>${sentence(schema.description)}</p>` : ''}${below ? members(below) : ''}`;
  }).join('');

function example(s, all, depth = 0) {
  if (s?.$ref) return example(all[nameOf(s.$ref)], all, depth);
  if (s?.anyOf || s?.oneOf) return example((s.anyOf ?? s.oneOf)[0], all, depth);
  if (s?.enum) return s.enum[0];
  if (s?.type === 'array') return depth > 2 ? [] : [example(s.items, all, depth + 1)];
  if (s?.type === 'integer' || s?.type === 'number') return s.default ?? s.minimum ?? 1;
  if (s?.type === 'boolean') return s.default ?? true;
  if (s?.properties) {
    const names = s.required?.length ? s.required : Object.keys(s.properties).slice(0, 2);
    return Object.fromEntries(names.map((n) => [n, example(s.properties[n], all, depth + 1)]));
  }
  return s?.type === 'object' ? {} : '...';
}

function curl(method, path, op, all) {
  const words = [method === 'get' ? 'curl' : `curl -X ${method.toUpperCase()}`];
  if (!op.security || op.security.length) words.push('-H "Authorization: Bearer $BERTH_TOKEN"');
  const body = op.requestBody?.content ?? {};
  if (body['application/json']) words.push(`-H 'Content-Type: application/json'`, `-d '${JSON.stringify(body['application/json'].example ?? example(body['application/json'].schema, all))}'`);
  else if (body['multipart/form-data']) words.push('-F file=@FILE');
  else if (Object.keys(body).length) words.push('--data-binary @FILE');
  if (op.responses['200']?.content?.['text/event-stream']) words.push(`-N -H 'Accept: text/event-stream'`);
  return [...words, `"$BERTH_URL${path.replace(/\{(\w+)\}/g, (_, n) => n.toUpperCase())}"`].join(' \\\n  ');
}

function operation(method, path, op, api) {
  const parameters = (op.parameters ?? []).map((p) => {
    const more = [sentence(p.description), limits(p.schema)].filter(Boolean).join('; ');
    return `<div class="member"><dt>${code(p.name)}${p.required ? '<b>required</b>' : ''}<span>${html(p.in)}, ${type(p.schema)}</span></dt><dd>${more ? `<p>${more}</p>` : ''}</dd></div>`;
  });
  const said = Object.entries(op.responses).map(([status, given]) => [status, given.$ref ? api.components.responses[nameOf(given.$ref)] : given]);
  const responses = said.filter(([status]) => status < 400).map(
    ([status, r]) => `<div class="member"><dt>${code(status, 'good')}<span>${sentence(r.description)}</span></dt><dd>${content(r.content)}</dd></div>`);
  const errors = said.filter(([status]) => status >= 400).map(([status, r]) => `<li>${code(status, 'bad')} ${say(r.description)}</li>`);
  return `<section class="op" id="${operationId(method, path)}" data-find="${html(`${method} ${path} ${op.summary}`.toLowerCase())}">
<h3><span class="m ${method}">${method.toUpperCase()}</span> ${code(path)}</h3>
<p class="what">${sentence(op.summary)}.</p>
${op.description ? `<p>${sentence(op.description)}</p>` : ''}
${op['x-idempotent'] ? `<p>Without an <code>Idempotency-Key</code>, may be sent again: ${say(op['x-idempotent'])}.</p>` : ''}
${parameters.length ? `<h4>Parameters</h4><dl class="members">${parameters.join('')}</dl>` : ''}
${op.requestBody ? `<h4>Body${op.requestBody.required === false ? ', may be left out' : ''}</h4>${content(op.requestBody.content, api.components.schemas)}` : ''}
<h4>Answers</h4><dl class="members">${responses.join('')}</dl>
${errors.length ? `<ul class="errors">${errors.join('')}</ul>` : ''}
<pre tabindex="0">${html(curl(method, path, op, api.components.schemas))}</pre>
</section>`;
}

/** @param api openapi.json; head: the tags of styles and scripts. Returns the whole page. */
export function reference(api, head) {
  const found = new Map(Object.keys(GROUPS).map((g) => [g, []]));
  for (const [path, item] of Object.entries(api.paths))
    for (const method of METHODS)
      if (item[method]) {
        const group = item[method].tags[0];
        if (!found.has(group)) throw new Error(`reference.mjs has no name for the tag ${group}`);
        found.get(group).push([method, path, item[method]]);
      }
  const groups = [...found].filter(([, ops]) => ops.length);
  const nav = groups.map(([g, ops]) => `<li><a href="#${g}">${GROUPS[g]}</a><ul>${ops.map(([m, p, op]) =>
    `<li data-find="${html(`${m} ${p} ${op.summary}`.toLowerCase())}"><a href="#${operationId(m, p)}"><span class="m ${m}">${m === 'delete' ? 'DEL' : m.toUpperCase()}</span>${html(p)}</a></li>`).join('')}</ul></li>`).join('');
  const schemas = Object.entries(api.components.schemas).sort(([a], [b]) => a.localeCompare(b));
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>API reference · Berth</title>
${head}
</head>
<body class="reference">
<a class="skip" href="#main">Skip to the reference</a>
<nav aria-label="Operations"><p class="brand"><a href="/">Berth</a> API ${html(api.info.version)}</p>
<input class="input" type="search" id="find" placeholder="Find an operation" aria-label="Find an operation" hidden>
<ul><li><a href="#begin">How to begin</a></li>${nav}<li><a href="#schemas">Schemas</a></li></ul></nav>
<main id="main">
<h1>API reference</h1>
<p class="lead">${say(api.info.description)}</p>
<section id="begin"><h2>How to begin</h2>
<p>Requests carry a token: <code>Authorization: Bearer TOKEN</code>. An admin makes tokens with roles in the page under Settings, by <code>berthctl tokens create</code>, or by <a href="#${operationId('post', '/tokens')}">POST /tokens</a>.
A browser that cannot send the header on a WebSocket asks for a <a href="#${operationId('post', '/tickets')}">ticket</a>. <code>/health</code> and <code>/ready</code> need none.</p>
<pre tabindex="0">export BERTH_URL=${html(api.servers[0].url)} BERTH_TOKEN=...
curl -H "Authorization: Bearer $BERTH_TOKEN" $BERTH_URL/me</pre>
<p>Whatever fails is answered by an <a href="#schema-Error">Error</a> whose message says what to do next. 429 and 503 carry <code>Retry-After</code>, in seconds. With an <code>Idempotency-Key</code> an act that is sent again
is done once. Lists are read page by page: <code>next_cursor</code> of one answer is <code>cursor</code> of the next request. Programs read all this from <a href="/openapi.json">openapi.json</a>.</p>
</section>
${groups.map(([g, ops]) => `<section class="group" id="${g}"><h2>${GROUPS[g]}</h2>${ops.map(([m, p, op]) => operation(m, p, op, api)).join('\n')}</section>`).join('\n')}
<section class="group" id="schemas"><h2>Schemas</h2>
${schemas.map(([name, s]) => `<section class="op" id="schema-${html(name)}"><h3>${html(name)}</h3>${s.description ? `<p>${sentence(s.description)}</p>` : ''}${inner(s) ? members(inner(s)) : `<p>${type(s)}</p>`}</section>`).join('\n')}
</section>
<p id="none" hidden>No operation has all these words.</p>
</main>
</body>
</html>
`;
}
