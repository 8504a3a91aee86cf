/** Lists sessions from Temporal's visibility, page by page. */
import type { SessionPage, SessionSummary } from '../../../contracts/api/session-view.ts';
import { tierSchema } from '../../../contracts/api/session-view.ts';
import { defined } from '../../../domain/defined.ts';
import { sessionNameOf } from '../../../domain/names.ts';
import type { Tier } from '../../../domain/session/tiers.ts';
import { SESSION_WORKFLOW } from '../../../workflows/session/session-messages.ts';
import { type Listed, listedText, listedTime, listPage } from '../visibility-page.ts';
import type { SessionClientContext } from './session-client-context.ts';

export interface ListSessions {
  readonly project?: string | undefined;
  readonly tier?: Tier | undefined;
  readonly cursor?: string | undefined;
  readonly limit: number;
}

/** @throws SPEC_INVALID (cursor), TEMPORAL_UNAVAILABLE */
export async function listSessions(context: SessionClientContext, query: ListSessions): Promise<SessionPage> {
  const { items, next } = await listPage(context, visibilityQuery(query), query);
  return { items: items.flatMap((item) => summary(item) ?? []), ...defined({ next }) };
}

/** Safe without escaping: the schemas of these values allow no quotes. */
function visibilityQuery({ project, tier }: ListSessions): string {
  const terms = [`WorkflowType = '${SESSION_WORKFLOW}'`, `ExecutionStatus != 'ContinuedAsNew'`];
  if (project !== undefined) terms.push(`KilnProject = '${project}'`);
  if (tier !== undefined) terms.push(`KilnTier = '${tier}'`);
  return terms.join(' AND ');
}

function summary(execution: Listed): SessionSummary | undefined {
  const name = sessionNameOf(execution.execution?.workflowId ?? '');
  if (name === undefined) return undefined;
  const attributes = execution.searchAttributes?.indexedFields;
  const tier = tierSchema.safeParse(listedText(attributes, 'KilnTier'));
  const startedAt = listedTime(execution.startTime) ?? new Date(0).toISOString();
  return {
    thread: name.thread,
    project: name.project,
    tier: tier.success ? tier.data : 'new',
    createdAt: listedText(execution.memo?.fields, 'createdAt') ?? startedAt,
    ...defined({
      hostId: listedText(attributes, 'KilnHost'),
      closedAt: listedTime(execution.closeTime),
    }),
  };
}
