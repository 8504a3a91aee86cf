import type { SessionSummary } from '../../contracts/api/session-view.ts';
import { defined } from '../../domain/defined.ts';
import type { Tier } from '../../domain/session/tiers.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { pagedItems } from '../paged-items.ts';
import { durationText } from '../terminal/terminal-text.ts';
import { textColumns } from '../terminal/text-columns.ts';

export interface ListOptions {
  readonly project?: string;
  readonly tier?: Tier;
  readonly limit: number;
}

/** `kiln session list`: with --json one document a session. @returns exit code */
export async function listSessions(
  context: CliContext,
  output: CommandOutput,
  { project, tier, limit }: ListOptions,
): Promise<number> {
  const api = await context.connect();
  const filter = defined({ project, tier });
  const { items, more } = await pagedItems((page) => api.listSessions({ query: { ...filter, ...page } }), limit);
  if (output.json) for (const item of items) output.answer(item, () => []);
  else output.answer(items, () => table(items, context.now()));
  if (more) output.note(`There are more: give a --limit above ${limit}.`);
  return EXIT.ok;
}

function table(items: readonly SessionSummary[], now: number): string[] {
  return textColumns(
    ['THREAD', 'PROJECT', 'TIER', 'AGE', 'HOST', 'ENDED'],
    items.map(({ thread, project, tier, createdAt, hostId, closedAt }) => [
      thread,
      project,
      tier,
      durationText(now - Date.parse(createdAt)),
      hostId ?? '-',
      closedAt ?? '-',
    ]),
  );
}
