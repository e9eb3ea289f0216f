// Builds the page into dist/: bundles, hashes, writes index.html, precompresses, checks the size of the first load.
import { build, context } from 'esbuild';
import { createHash } from 'node:crypto';
import { cp, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { reference } from './reference.mjs';

const root = path.dirname(fileURLToPath(import.meta.url));
// Made beside the old one and put in its place when whole: a gateway that serves it never sees half a page.
const made = `dist.new-${process.pid}`;
const dist = path.join(root, made);
const FIRST_LOAD_LIMIT = 150 * 1024;
const COMPRESS = new Set(['.html', '.js', '.css', '.svg', '.json', '.txt']);

const options = {
  absWorkingDir: root,
  entryPoints: { main: 'src/main.tsx' },
  outdir: `${made}/assets`,
  entryNames: '[name]-[hash]',
  chunkNames: '[name]-[hash]',
  assetNames: '[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  target: ['es2022', 'chrome120', 'firefox120', 'safari17.4'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  minify: true,
  sourcemap: false,
  metafile: true,
  legalComments: 'external',
  publicPath: '/assets',
  loader: { '.woff2': 'file', '.svg': 'file', '.ttf': 'file' },
  logLevel: 'warning',
};

/** The editor of prompts: bundles of its own, so that neither its script nor its styles are part of the first load. */
async function editor() {
  const result = await build({ ...options, entryPoints: { editor: 'src/editor/monaco.ts', 'editor-worker': 'src/editor/worker.ts' }, splitting: false });
  const outputs = result.metafile.outputs;
  const url = (entry) => '/' + path.posix.relative(made, Object.keys(outputs).find((o) => outputs[o].entryPoint === entry));
  const script = Object.keys(outputs).find((o) => outputs[o].entryPoint === 'src/editor/monaco.ts');
  const packed = gzipSync(await readFile(path.join(root, script)), { level: 9 }).length;
  console.log(`editor of prompts ${(packed / 1024).toFixed(1)} KiB gzip, loaded when a prompt is edited`);
  return { EDITOR: JSON.stringify({ script: url('src/editor/monaco.ts'), styles: '/' + path.posix.relative(made, outputs[script].cssBundle), worker: url('src/editor/worker.ts') }) };
}

/** reference.html, with a style sheet and a script of its own. */
async function writeReference(icon, theme) {
  const made = await build({ ...options, entryPoints: { reference: 'src/reference.ts', 'reference-style': 'src/styles/reference.css' }, splitting: false });
  const url = (end) => '/' + path.posix.relative(options.outdir.replace('/assets', ''), Object.keys(made.metafile.outputs).find((o) => o.endsWith(end)));
  const head = [`<link rel="icon" href="/assets/${icon}" type="image/svg+xml">`, `<script src="${theme}"></script>`, `<link rel="stylesheet" href="${url('.css')}">`, `<script type="module" src="${url('.js')}"></script>`];
  const page = reference(JSON.parse(await readFile(path.join(root, '../gatewayd/openapi.json'), 'utf8')), head.join('\n'));
  await writeFile(path.join(dist, 'reference.html'), page);
  await writeFile(path.join(dist, 'reference.html.gz'), gzipSync(page, { level: 9 }));
}

/** Static imports of a chunk, itself included: what must arrive before it runs. */
function closure(outputs, start) {
  const seen = new Set();
  const walk = (name) => {
    if (seen.has(name) || !outputs[name]) return;
    seen.add(name);
    for (const i of outputs[name].imports) if (i.kind === 'import-statement') walk(i.path);
  };
  walk(start);
  return [...seen];
}

async function finish(meta) {
  // A classic script of its own: it must run before the first paint and may import nothing.
  const boot = await build({ ...options, entryPoints: { theme: 'src/theme-boot.ts' }, splitting: false, format: 'iife' });
  const outputs = { ...meta.outputs, ...boot.metafile.outputs };
  const find = (entry) => Object.keys(outputs).find((o) => outputs[o].entryPoint === entry);
  const main = find('src/main.tsx');
  const theme = find('src/theme-boot.ts');
  const css = outputs[main].cssBundle;
  const chunks = closure(outputs, main);
  const url = (o) => '/' + path.posix.relative(made, o);

  const icon = await readFile(path.join(root, 'public/favicon.svg'));
  const favicon = `favicon-${createHash('sha256').update(icon).digest('hex').slice(0, 8).toUpperCase()}.svg`;
  await writeFile(path.join(dist, 'assets', favicon), icon);

  // The theme is set before the first paint by a tiny blocking script: no flash, and no inline script for the CSP.
  const font = Object.keys(outputs).find((o) => /geist-latin-wght-normal/.test(o));
  const head = [
    `<script src="${url(theme)}"></script>`,
    `<link rel="preload" href="${url(font)}" as="font" type="font/woff2" crossorigin>`,
    `<link rel="stylesheet" href="${url(css)}">`,
    ...chunks.filter((c) => c !== main).map((c) => `<link rel="modulepreload" href="${url(c)}">`),
    `<script type="module" src="${url(main)}"></script>`,
  ].join('\n');
  const html = (await readFile(path.join(root, 'index.html'), 'utf8')).replace('%FAVICON%', favicon).replace('%HEAD%', head);
  await writeFile(path.join(dist, 'index.html'), html);

  await writeReference(favicon, url(theme));

  let first = gzipSync(html, { level: 9 }).length;
  for (const name of await readdir(path.join(dist, 'assets'))) {
    const file = path.join(dist, 'assets', name);
    if (!COMPRESS.has(path.extname(name))) continue;
    const bytes = await readFile(file);
    const packed = gzipSync(bytes, { level: 9 });
    if (packed.length < bytes.length) await writeFile(file + '.gz', packed);
  }
  await writeFile(path.join(dist, 'index.html.gz'), gzipSync(html, { level: 9 }));
  for (const o of [...chunks, theme, css]) first += gzipSync(await readFile(path.join(root, o)), { level: 9 }).length;
  const script = first;
  first += outputs[font].bytes;
  const mono = Object.keys(outputs).find((o) => /geist-mono-latin-wght-normal/.test(o));
  first += outputs[mono].bytes;
  const kib = (n) => (n / 1024).toFixed(1) + ' KiB';
  console.log(`first load ${kib(first)} (code and styles ${kib(script)} gzip, fonts ${kib(first - script)}), limit ${kib(FIRST_LOAD_LIMIT)}`);
  if (first > FIRST_LOAD_LIMIT) {
    console.error('The first load is over its limit: move code behind a dynamic import.');
    process.exitCode = 1;
  }
}

async function show(keep) {
  const to = path.join(root, 'dist');
  const old = path.join(root, `dist.old-${process.pid}`);
  await rm(old, { recursive: true, force: true });
  await rename(to, old).catch(() => undefined);
  if (keep) await cp(dist, to, { recursive: true });
  else await rename(dist, to);
  await rm(old, { recursive: true, force: true });
}

await rm(dist, { recursive: true, force: true });
await mkdir(path.join(dist, 'assets'), { recursive: true });
if (process.argv.includes('--watch')) {
  const ctx = await context({
    ...options,
    define: await editor(),
    minify: false,
    plugins: [{ name: 'finish', setup: (b) => b.onEnd(async (r) => (r.metafile && r.errors.length === 0 ? (await finish(r.metafile), show(true)) : undefined)) }],
  });
  await ctx.watch();
} else {
  const result = await build({ ...options, define: await editor() });
  await finish(result.metafile);
  await show(false);
}
