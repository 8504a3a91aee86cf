import { code, plain } from '../../domain/markdown-text.ts';
import type { PoolProgress, PoolRound } from '../../domain/pool/pool-round.ts';

/** Page for the operator about a pool, in the Temporal Web UI: Markdown of bounded size, text is never markup. Pure. */
export function poolDetails(hostId: string, { rounds, last, silent }: PoolProgress): string {
  return [
    silent === undefined
      ? `### ● pool of ${code(hostId)}`
      : `### ✗ ${code(hostId)} does not answer since ${silent.since}`,
    '',
    ...(silent === undefined ? [] : [plain(silent.reason, 400), '']),
    ...(last === undefined ? [] : [...figures(last), '', ...table(last), '']),
    `round ${rounds}${last === undefined ? '' : `, last answered ${last.at}`} · ${code('kiln pool status')} · ${code('kiln pool inventory')}`,
  ].join('\n');
}

function figures({ counters, enabled }: PoolRound): string[] {
  if (!enabled) return ['The pool is switched off (`pool_size` is 0).'];
  const { hits, waits, misses, created, failed, recycled } = counters;
  const asked = hits + waits + misses;
  const rate = asked === 0 ? 'not asked yet' : `${Math.round(((hits + waits) / asked) * 100)} % of ${asked}`;
  const causes = Object.entries(recycled).map(([cause, count]) => `${cause} ${count}`);
  return [
    `- **Given a ready VM:** ${rate} (at once ${hits}, after waiting ${waits}, none ready ${misses})`,
    `- **Made:** ${created}, failed ${failed}`,
    `- **Recycled:** ${causes.join(', ') || 'none'}`,
  ];
}

function table({ pools, more }: PoolRound): string[] {
  if (pools.length === 0) return [];
  const rows = pools.map(
    ({ name, reason, ready, target, creating, templateCreatedAt }) =>
      `| ${plain(name, 120)} | ${reason} | ${ready} of ${target} | ${creating} | ${templateCreatedAt ?? 'none'} |`,
  );
  const rest = more > 0 ? [`| and ${more} more | | | | |`] : [];
  return ['| pool | why | ready | making | template of |', '|---|---|---|---|---|', ...rows, ...rest];
}
