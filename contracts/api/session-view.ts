/** A session and its runs as the API shows them. */
import { z } from 'zod';
import { defined } from '../../domain/defined.ts';
import type { SessionName } from '../../domain/names.ts';
import type { KnownRun } from '../../domain/session/run-book.ts';
import { isStored } from '../../domain/session/save-book.ts';
import { causeInWords, type SessionEvent } from '../../domain/session/session-events.ts';
import type { SessionRecord } from '../../domain/session/session-record.ts';
import type { SessionView as SessionState } from '../../domain/session/session-state.ts';
import { TIERS } from '../../domain/session/tiers.ts';
import { hostIdSchema, isoTimeSchema, projectSchema, runIdSchema, threadSchema } from '../identifiers.ts';
import { lostWorkspaceSchema, sessionEndSchema, sessionSettingsSchema } from '../store/session-documents.ts';

export const tierSchema = z.enum(TIERS);
const runStateSchema = z.enum(['waiting', 'running', 'finished', 'failed', 'cancelled']);

export const runViewSchema = z.object({
  id: runIdSchema,
  thread: threadSchema,
  project: projectSchema,
  state: runStateSchema,
  ahead: z.int().exactOptional().meta({ description: 'Runs that come before it.' }),
  turn: z.int().exactOptional().meta({ description: 'Every started run of a thread has the next number.' }),
  acceptedAt: isoTimeSchema,
  startedAt: isoTimeSchema.exactOptional(),
  endedAt: isoTimeSchema.exactOptional(),
  exit: z
    .object({ code: z.int().nullable(), signal: z.string().nullable(), outputBytes: z.int() })
    .exactOptional()
    .meta({ description: 'How its process ended; a finished run has it.' }),
  failure: z.object({ code: z.string(), message: z.string() }).exactOptional(),
  cause: z.string().exactOptional().meta({ description: 'Why it was cancelled.' }),
  repeats: z.int().exactOptional().meta({ description: 'How often it was started again after its VM was lost.' }),
  lost: lostWorkspaceSchema.exactOptional().meta({ description: 'What the session had lost before this run.' }),
  saved: z.boolean().exactOptional().meta({
    description:
      'Of an ended run: whether the workspace as it left it is in the store, or as a later run left it. Absent where that is not known.',
  }),
  links: z.object({ self: z.string(), output: z.string() }),
});
export type RunView = z.infer<typeof runViewSchema>;

export const runListSchema = z.object({ items: z.array(runViewSchema) });

const sessionEventSchema = z.object({
  seq: z.int(),
  at: isoTimeSchema,
  what: z.string().meta({ description: 'tier, vm, place, settings, save, or `run <id>`.' }),
  to: z.string(),
  cause: z.string(),
  why: z.string().meta({ description: 'The cause in words.' }),
});

export const sessionViewSchema = z.object({
  thread: threadSchema,
  project: projectSchema,
  tier: tierSchema,
  settings: sessionSettingsSchema,
  createdAt: isoTimeSchema,
  expiresAt: isoTimeSchema.exactOptional().meta({ description: 'Absent once it has ended.' }),
  end: sessionEndSchema.exactOptional(),
  turns: z.int().meta({ description: 'Number of the last run that was started.' }),
  running: z.object({ id: runIdSchema, turn: z.int(), startedAt: isoTimeSchema }).exactOptional(),
  waiting: z.array(z.object({ id: runIdSchema, acceptedAt: isoTimeSchema })),
  lost: lostWorkspaceSchema
    .exactOptional()
    .meta({ description: 'What was lost of the workspace; the next run is told.' }),
  saved: z
    .object({ turn: z.int().min(0), isWhole: z.boolean() })
    .exactOptional()
    .meta({
      description:
        'What is safe in the store: the workspace as it was after this turn; `isWhole` where nothing has changed since.',
    }),
  hostId: hostIdSchema.exactOptional(),
  vmId: z.string().exactOptional(),
  events: z.array(sessionEventSchema).meta({ description: 'The last changes, each with its cause.' }),
  links: z.object({ self: z.string(), runs: z.string(), temporal: z.string().exactOptional() }),
});
export type SessionView = z.infer<typeof sessionViewSchema>;

export const sessionSummarySchema = z.object({
  thread: threadSchema,
  project: projectSchema,
  tier: tierSchema,
  hostId: hostIdSchema.exactOptional(),
  createdAt: isoTimeSchema,
  closedAt: isoTimeSchema.exactOptional(),
});
export type SessionSummary = z.infer<typeof sessionSummarySchema>;
export const sessionPageSchema = z.object({ items: z.array(sessionSummarySchema), next: z.string().exactOptional() });
export type SessionPage = z.infer<typeof sessionPageSchema>;

/** @returns the API shape of a session. Pure. */
export function sessionView(record: SessionRecord, state?: SessionState, temporalUrl?: string): SessionView {
  const { thread, project, createdAt, end } = record;
  const runs = state?.runs;
  const self = sessionPath(record);
  return {
    thread,
    project,
    tier: end === undefined ? (state?.tier ?? 'cold') : end.as === 'expired' ? 'expired' : 'closed',
    settings: state?.settings ?? record.settings,
    createdAt,
    ...(end === undefined && state !== undefined ? { expiresAt: new Date(state.expiresAtMs).toISOString() } : {}),
    ...defined({ end }),
    turns: runs?.turn ?? end?.lastTurn ?? 0,
    ...(runs?.running === undefined ? {} : { running: startedOf(runs.running) }),
    waiting: (runs?.waiting ?? []).map(({ id, acceptedAt }) => ({ id, acceptedAt })),
    ...savedView(state),
    ...defined({ lost: runs?.lost, hostId: state?.place?.hostId, vmId: state?.place?.vmId }),
    events: (state?.events ?? []).map(eventView),
    links: {
      self: withProject(self, project),
      runs: withProject(`${self}/runs`, project),
      ...defined({ temporal: temporalUrl }),
    },
  };
}

function savedView(state: SessionState | undefined): Pick<SessionView, 'saved'> {
  const saves = state?.saves;
  if (saves?.stored === undefined) return {};
  return { saved: { turn: saves.stored.turn, isWhole: isStored(saves) } };
}

/**
 * @param savedTurn the workspace as it was after this turn is in the store; absent: not known
 * @returns the API shape of a run. Pure.
 */
export function runView(
  { thread, project }: Pick<SessionName, 'thread' | 'project'>,
  known: KnownRun,
  savedTurn?: number,
): RunView {
  const { id, acceptedAt } = known.run;
  const self = `${sessionPath({ thread })}/runs/${encodeURIComponent(id)}`;
  const links = { self: withProject(self, project), output: withProject(`${self}/output`, project) };
  const common = { id, thread, project, acceptedAt, links };
  if (known.state === 'waiting') return { ...common, state: 'waiting', ahead: known.ahead };
  if (known.state === 'running') {
    const { turn, startedAt, repeats, lost } = known.run;
    return {
      ...common,
      state: 'running',
      turn,
      startedAt,
      ...(repeats === 0 ? {} : { repeats }),
      ...defined({ lost }),
    };
  }
  const { turn, startedAt, endedAt, lost, outcome } = known.run;
  const saved = turn === undefined || savedTurn === undefined ? undefined : savedTurn >= turn;
  const ended = { ...common, ...defined({ turn, startedAt, lost, saved }), endedAt };
  if (outcome.as === 'failed') {
    return { ...ended, state: 'failed', failure: { code: outcome.failure, message: outcome.message } };
  }
  if (outcome.as === 'cancelled') return { ...ended, state: 'cancelled', cause: outcome.cause };
  const { code, signal, outputBytes } = outcome;
  return { ...ended, state: 'finished', exit: { code, signal, outputBytes } };
}

function startedOf({ id, turn, startedAt }: { id: string; turn: number; startedAt: string }) {
  return { id, turn, startedAt };
}

function eventView(event: SessionEvent): z.infer<typeof sessionEventSchema> {
  const { seq, at, cause } = event;
  const what = event.of === 'run' ? `run ${event.runId}` : event.of;
  const to = event.of === 'settings' ? event.fields.join(', ') : event.to;
  return { seq, at, what, to, cause: cause.code, why: causeInWords(cause) };
}

function sessionPath({ thread }: { thread: string }): string {
  return `/api/sessions/${thread}`;
}

function withProject(path: string, project: string): string {
  return `${path}?project=${project}`;
}
