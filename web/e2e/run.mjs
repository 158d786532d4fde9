/**
 * Runs the page's tests in the real browser, one file after the other: node e2e/run.mjs [name ...]
 * What they run against is told by the environment: see stage.mjs. Closes with `N passed, N failed, N skipped`.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(here)
  .filter((f) => f.endsWith('.spec.mjs') && (wanted.length === 0 || wanted.some((w) => f.startsWith(w))))
  .sort()
  .map((f) => `${here}${f}`);
const child = spawn(process.execPath, ['--test', '--test-concurrency=1', '--test-reporter=spec', ...files], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
let output = '';
child.stdout.setEncoding('utf8').on('data', (part) => {
  output += part;
  process.stdout.write(part);
});
child.on('close', (code) => {
  const count = (name) => Number(new RegExp(`^\\S+ ${name} (\\d+)$`, 'm').exec(output)?.[1] ?? 0);
  const failed = count('fail') + count('cancelled');
  console.log(
    `${count('pass')} passed, ${code === 0 ? failed : Math.max(failed, 1)} failed, ${count('skipped')} skipped`,
  );
  process.exitCode = code ?? 1;
});
