// Stored pages never run in our origin: a real Berth, a real Chromium. Skipped without BERTH_URL and BERTH_TOKEN.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { berth } from './browser.mjs';

const { browser, options, url, token } = await berth(300_000);
const auth = { Authorization: `Bearer ${token}` };

const DO = (mark) => `try{localStorage.setItem('pwned','${mark}')}catch(e){};try{parent.pwned='${mark}'}catch(e){};new Image().src='${url}/pwned-${mark}'`;
const html = (mark) => `<!doctype html><html><body onload="${DO(mark)}"><script>${DO(mark)}</script><img src=x onerror="${DO(mark)}"></body></html>`;
const svg = (mark) => `<svg xmlns="http://www.w3.org/2000/svg" onload="${DO(mark).replaceAll('"', '&quot;')}"><script>${DO(mark)}</script><foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="javascript:${DO(mark).replaceAll("'", '&#39;')}"/></foreignObject></svg>`;
const xhtml = (mark) => `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><script>${DO(mark)}</script></head><body/></html>`;
const cases = [
  ['page.html', 'text/html', html], ['page.htm', 'text/html; charset=utf-8', html], ['picture.svg', 'image/svg+xml', svg], ['page.xhtml', 'application/xhtml+xml', xhtml], ['feed.xml', 'text/xml', xhtml],
  ['feed2.xml', 'application/xml', xhtml], ['notes.txt', 'text/plain', html], ['photo.png', 'image/png', html], ['photo.gif', 'image/gif', (m) => `GIF89a=0;${html(m)}`], ['unknown', 'application/octet-stream', html],
  ['letter.pdf', 'application/pdf', html], ['data.json', 'application/json', html], ['notes.md', 'text/markdown', html], ['table.csv', 'text/csv', html], ['page.mht', 'multipart/related', html], ['sound.mp3', 'audio/mpeg', html],
];

async function store(name, type, text) {
  const form = new FormData();
  form.set('file', new Blob([text], { type }), name);
  const reply = await fetch(`${url}/documents`, { method: 'POST', headers: auth, body: form });
  assert.equal(reply.status, 201, `${name}: ${await reply.clone().text()}`);
  return (await reply.json()).url;
}

async function ticket(path) {
  const reply = await fetch(`${url}/tickets`, { method: 'POST', headers: { ...auth, 'Content-Type': 'application/json' }, body: JSON.stringify({ path }) });
  const made = await reply.json();
  assert.ok(made.ticket, JSON.stringify(made));
  return `${url}${path}?token=${encodeURIComponent(made.ticket)}`;
}

/** A page of our origin with no content policy of its own: only the document's own headers stand in the way. */
async function bare(t, frame) {
  const context = await browser.newContext({ acceptDownloads: true });
  t.after(() => context.close());
  const page = await context.newPage();
  const asked = [];
  page.on('request', (r) => asked.push(r.url()));
  await page.route(`${url}/bare`, (route) => route.fulfill({ contentType: 'text/html', body: `<!doctype html><title>bare</title>${frame}` }));
  return { page, asked };
}

async function ran(page, asked) {
  await page.unroute(`${url}/bare`);
  await page.route(`${url}/bare`, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  const here = await page.evaluate(() => globalThis.pwned ?? null).catch(() => null);
  await page.goto(`${url}/bare`);
  const kept = await page.evaluate(() => localStorage.getItem('pwned'));
  return [here, kept, ...asked.filter((u) => u.includes('/pwned-'))].filter(Boolean);
}

test('the trap works: the same bytes run when a page serves them as HTML', options, async (t) => {
  const { page, asked } = await bare(t, html('trap'));
  await page.goto(`${url}/bare`, { waitUntil: 'load' });
  assert.notDeepEqual(await ran(page, asked), []);
});

for (const [name, type, make] of cases) {
  test(`${name} as ${type}`, options, async (t) => {
    const path = await store(name, type, make(name));
    const direct = await bare(t, '');
    await direct.page.goto(await ticket(path), { waitUntil: 'load' }).catch((e) => assert.match(String(e), /Download is starting|ERR_ABORTED/));
    assert.deepEqual(await ran(direct.page, direct.asked), [], 'opened');
    const ways = ['iframe src=', 'embed src=', 'object data=', 'img src=', 'iframe sandbox="allow-scripts allow-same-origin" src='];
    const links = await Promise.all(ways.map(() => ticket(path)));
    const framed = await bare(t, ways.map((w, i) => `<${w}"${links[i]}"></${w.split(' ')[0]}>`).join(''));
    await framed.page.goto(`${url}/bare`, { waitUntil: 'load' });
    assert.deepEqual(await ran(framed.page, framed.asked), [], 'embedded');
    const reply = await fetch(await ticket(path));
    assert.match(reply.headers.get('content-disposition'), /^attachment/);
    assert.equal(reply.headers.get('x-content-type-options'), 'nosniff');
    assert.match(reply.headers.get('content-security-policy') ?? '', /sandbox|default-src 'none'/);
  });
}
