/**
 * `npm run keep-histories`: keeps the histories of the last `npm test -- --project workflow` that stand for a way
 * through the stages, so that later code is replayed against them. Data that only names this machine is removed.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from './setup/places.mjs';

/** A history, with its continuations, for each end that a workload and a session can have, and runs of the maintenance. */
const KEPT = [
  /^plain-100$/,
  /^stop-(placeworkload|reservecapacity|validateservice|buildservice|provisionrootfs|bootvm|startservice|checkhealth)-after$/,
  /^stop-bare$/,
  /^early-(missing|build-fails|exits|never-listens)$/,
  /^(exits-later|unhealthy|vm-killed|too-big|port-second|second|nowhere)$/,
  /^(lost|cancelled|terminated|continued)(\.\d)?$/,
  /^maintenance-(whole|run-1|run-3)$/,
  /^session-default-(order|cancel|expiring|replaced|goes)-1$/,
  /^session-default-(dies-warm|dies-hot|dies-again|dies-with-files|in-trouble|rests-second|terminated|changed)-1$/,
  /^session-default-(long|paused)-1(\.\d+)?$/,
  /^session-default-(outlives|dies-in-run|with-files|no-pause|idle|store-away|save-fails|too-old|closes|given-up|drained-hot)-1$/,
  /^session-default-(tried-again|files-after|spool-gone|late-upload|written-after-death|written-while-evicting)-1$/,
  /^session-default-(drained-while-booting|cancelled-between)-1$/,
  /^session-default-host-(moves|returns|lost|deaf|deaf-held|lost-in-wake|lost-repeatable)-1$/,
  /^session-default-failed-wakes-1(\.\d+)?$/,
];

const from = join(projectRoot, 'node_modules', '.kiln-histories');
const to = join(projectRoot, 'test', 'histories');
mkdirSync(to, { recursive: true });
for (const file of readdirSync(from).sort()) {
  const name = file.replace(/\.json$/, '');
  if (!KEPT.some((pattern) => pattern.test(name))) continue;
  const history = JSON.parse(readFileSync(join(from, file), 'utf8'));
  writeFileSync(join(to, file), `${JSON.stringify(withoutMachine(history))}\n`);
  process.stdout.write(`kept ${name}, ${history.events.length} events\n`);
}

/** Replay needs neither stack traces nor the name of the worker that once did the work. */
function withoutMachine(value) {
  if (Array.isArray(value)) return value.map(withoutMachine);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => name !== 'stackTrace')
      .map(([name, inner]) => [name, name === 'identity' ? 'worker' : withoutMachine(inner)]),
  );
}
