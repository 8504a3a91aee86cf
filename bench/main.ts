/** `npm run bench [-- GROUP… --json --n N --sessions N]`: measures Kiln against its rivals. Figures go to stdout, progress to stderr. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defined } from '../domain/defined.ts';
import { type Figure, figureOf } from './figure.ts';
import { type BenchCommand, GROUPS, parseBenchCommand } from './groups.ts';
import { asJson, asTable } from './report.ts';

const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** Runs the groups one after the other, so that none disturbs another. */
async function measure(command: BenchCommand, signal: AbortSignal): Promise<Record<string, Figure>> {
  const figures: Record<string, Figure> = {};
  for (const name of command.groups) {
    const group = GROUPS[name];
    if (group === undefined) throw new Error(`no such group: ${name}`);
    const directory = await mkdtemp(join(tmpdir(), 'kiln-bench-'));
    try {
      say(`${name}: ${group.what}`);
      const options = { n: command.n ?? group.defaultN, ...defined({ sessions: command.sessions }) };
      const measurements = await group.measure({ ...options, say, directory, signal });
      for (const measurement of measurements) figures[measurement.name] = figureOf(measurement);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
  return figures;
}

function usage(): string {
  const groups = Object.entries(GROUPS).map(([name, { what }]) => `  ${name.padEnd(10)}${what}`);
  return ['npm run bench [-- GROUP… --json --n N --sessions N]', '', ...groups].join('\n');
}

const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    // A second one does not wait for the orderly end.
    if (interrupted.signal.aborted) process.exit(130);
    interrupted.abort(new Error(`ended by ${name}`));
  });
}

try {
  const command = parseBenchCommand(process.argv.slice(2));
  if (command.help) say(usage());
  else {
    const figures = await measure(command, interrupted.signal);
    process.stdout.write(`${command.json ? asJson(figures) : asTable(figures)}\n`);
  }
} catch (error) {
  say(error instanceof Error ? (error.stack ?? error.message) : String(error));
  process.exitCode = 1;
}
