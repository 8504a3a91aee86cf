/** `npm run chaos -- sessions`: random lives of sessions, compared with a model of their workspaces after every run. */
import { startOwnServers } from '../../test/support/servers/servers.global.ts';
import type { Say } from '../say.ts';
import { runLives } from './run-lives.ts';

export interface LivesRunOptions {
  readonly lives: number;
  readonly seed: number;
  readonly together: number;
  readonly guests: 'fake' | 'qemu';
}

const LIFE_MS = 600_000;
const SETTLE_MS = 30_000;

/** @returns how many findings there were */
export async function runSessionLives(options: LivesRunOptions, say: Say, signal: AbortSignal): Promise<number> {
  const { lives, together, guests } = options;
  const servers = await startOwnServers();
  const totals: Record<string, number> = {};
  let [lived, findings] = [0, 0];
  try {
    while (lived < lives && !signal.aborted) {
      const seeds = Array.from({ length: Math.min(together, lives - lived) }, (_, n) => options.seed + lived + n);
      const began = Date.now();
      const { wrong, counts } = await runLives(seeds, { servers, guests, lifeMs: LIFE_MS, settleMs: SETTLE_MS });
      lived += seeds.length;
      findings += wrong.length;
      for (const [what, count] of Object.entries(counts)) totals[what] = (totals[what] ?? 0) + count;
      const tookMs = Date.now() - began;
      say(
        { seeds, tookMs, wrong, counts },
        `seeds ${seeds[0]}…${seeds.at(-1)}, ${Math.round(tookMs / 1000)} s: ${wrong.length === 0 ? 'ok' : wrong.join('\n  ')}`,
      );
    }
  } finally {
    await servers.stop();
  }
  const done = Object.entries(totals).sort();
  say(
    { lives: lived, findings, counts: totals },
    `${lived} lives, ${findings} findings\n${done.map(([what, count]) => `  ${String(count).padStart(6)} ${what}`).join('\n')}`,
  );
  return findings;
}
