/**
 * Builds the page into build/web: index.html with its style and its first script inside, script files named by their
 * hash, each compressed ahead, and manifest.json, which says how the server is to serve them.
 *
 *     node tools/build.mjs [--record] [--out DIR]
 *
 * The Content-Security-Policy names the style and the first script by hash. That script adds the entry file as an
 * element: 'strict-dynamic' lets a trusted script do so (not by import(), which is judged like its parser-inserted
 * parent), and what that file imports in turn, now or later. No host, no nonce, nothing unsafe.
 * --record writes the sizes to sizes.json; without it the build fails when they have grown by more than a twentieth.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { build, transformWithOxc } from 'vite';
import { transform as transformCss } from 'lightningcss';

const web = fileURLToPath(new URL('..', import.meta.url));
const outAt = process.argv.indexOf('--out');
const out = path.resolve(outAt > 0 ? process.argv[outAt + 1] : path.join(web, '../build/web'));
const record = process.argv.includes('--record');

/** Bytes of gzip. js and css: what the first view needs. answer: what comes with the first answer. */
const LIMITS = { js: 80 * 1024, answer: 40 * 1024, css: 15 * 1024 };
const GROWTH = 1.05;
const REQUESTS_MAX = 10;

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.css': 'text/css; charset=utf-8',
};

const gzip = (bytes) => gzipSync(bytes, { level: 9 });
const brotli = (bytes) =>
  brotliCompressSync(bytes, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
  });
const sha = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

async function scripts() {
  const result = await build({
    root: web,
    configFile: path.join(web, 'vite.config.ts'),
    logLevel: 'warn',
    build: {
      outDir: out,
      emptyOutDir: true,
      target: 'es2022',
      assetsDir: 'assets',
      modulePreload: false,
      cssCodeSplit: false,
      reportCompressedSize: false,
      sourcemap: false,
      rolldownOptions: {
        input: path.join(web, 'src/main.tsx'),
        output: { entryFileNames: 'assets/[name]-[hash].js', chunkFileNames: 'assets/[name]-[hash].js' },
      },
    },
  });
  const chunks = (Array.isArray(result) ? result[0] : result).output.filter((o) => o.type === 'chunk');
  const entry = chunks.find((c) => c.isEntry);
  const first = new Set();
  const add = (name) => {
    if (first.has(name)) return;
    first.add(name);
    for (const next of chunks.find((c) => c.fileName === name)?.imports ?? []) add(next);
  };
  add(entry.fileName);
  return { entry: entry.fileName, first: [...first], all: chunks.map((c) => c.fileName) };
}

async function style() {
  let css = '';
  for (const name of ['tokens.css', 'page.css']) css += await readFile(path.join(web, 'src/style', name), 'utf8');
  const { code } = transformCss({ filename: 'page.css', code: Buffer.from(css), minify: true });
  return Buffer.from(code).toString('utf8').trim();
}

/** The first lines: the chosen theme before anything is drawn, then the page itself. */
async function bootScript(entry) {
  const source = `try{const t=localStorage.getItem('kith.theme');if(t==='light'||t==='dark')document.documentElement.dataset.theme=t}catch{}const s=document.createElement('script');s.type='module';s.src='/${entry}';document.head.append(s)`;
  return (await transformWithOxc(`{${source}}`, 'boot.js')).code.trim();
}

async function put(file, bytes) {
  await writeFile(path.join(out, file), bytes);
  await writeFile(path.join(out, `${file}.gz`), gzip(bytes));
  await writeFile(path.join(out, `${file}.br`), brotli(bytes));
}

function entryOf(file, bytes, extra) {
  return {
    path: file === 'index.html' ? '/' : `/${file}`,
    file,
    type: TYPES[path.extname(file)] ?? 'application/octet-stream',
    bytes: bytes.length,
    cache: file === 'index.html' ? 'no-cache' : 'public, max-age=31536000, immutable',
    etag: `"${createHash('sha256').update(bytes).digest('hex')}"`,
    encodings: { br: `${file}.br`, gzip: `${file}.gz` },
    ...extra,
  };
}

async function checkSizes(now) {
  const file = path.join(web, 'sizes.json');
  if (record) await writeFile(file, `${JSON.stringify(now, null, 2)}\n`);
  const kept = JSON.parse(await readFile(file, 'utf8'));
  const faults = [];
  for (const kind of ['js', 'answer', 'css']) {
    if (now[kind] > LIMITS[kind])
      faults.push(`${kind}: ${now[kind]} bytes of gzip are over the limit of ${LIMITS[kind]}`);
    if (now[kind] > kept[kind] * GROWTH)
      faults.push(
        `${kind}: ${now[kind]} bytes of gzip are over the recorded ${kept[kind]} by more than a twentieth (npm run sizes records anew)`,
      );
  }
  if (now.requests > REQUESTS_MAX)
    faults.push(`${now.requests} requests for the first view, ${REQUESTS_MAX} are allowed`);
  return faults;
}

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const { entry, first, all } = await scripts();
const css = await style();
const boot = await bootScript(entry);
const html = (await readFile(path.join(web, 'index.html'), 'utf8'))
  .replace('<!--style-->', () => `<style>${css}</style>`)
  .replace('<!--script-->', () => `<script>${boot}</script>`);
const csp = [
  "default-src 'none'",
  `script-src ${sha(boot)} 'strict-dynamic'`,
  `style-src ${sha(css)}`,
  "connect-src 'self'",
  "img-src 'self' data: blob:",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

const files = [];
await put('index.html', Buffer.from(html));
files.push(
  entryOf('index.html', Buffer.from(html), {
    headers: {
      'Content-Security-Policy': csp,
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
      'Cross-Origin-Opener-Policy': 'same-origin',
    },
  }),
);
let js = gzip(Buffer.from(boot)).length;
let answer = 0;
for (const file of all.sort()) {
  const bytes = await readFile(path.join(out, file));
  await put(file, bytes);
  files.push(entryOf(file, bytes, { headers: { 'X-Content-Type-Options': 'nosniff' } }));
  if (first.includes(file)) js += gzip(bytes).length;
  else if (path.basename(file).startsWith('answer-')) answer += gzip(bytes).length;
}
await writeFile(path.join(out, 'manifest.json'), `${JSON.stringify({ version: 1, files }, null, 2)}\n`);

const sizes = { js, answer, css: gzip(Buffer.from(css)).length, requests: 1 + first.length };
const faults = await checkSizes(sizes);
const lazy = (await readdir(path.join(out, 'assets'))).filter((f) => f.endsWith('.js')).length - first.length;
console.log(
  `page: ${sizes.js} bytes of script, ${sizes.css} of style, ${sizes.answer} more with the first answer (gzip), ${sizes.requests} requests and the socket; ${lazy} files later, when needed`,
);
if (faults.length > 0) {
  for (const fault of faults) console.error(`page: ${fault}`);
  process.exitCode = 1;
}
