/** Routes of sessions and their runs. */
import { z } from 'zod';
import { runIdSchema, threadSchema } from '../../identifiers.ts';
import { cursorSchema } from '../cursor.ts';
import {
  createSessionBodySchema,
  forkSessionBodySchema,
  patchSessionBodySchema,
  projectQuerySchema,
  sendRunBodySchema,
} from '../session-request.ts';
import { runListSchema, runViewSchema, sessionPageSchema, sessionViewSchema, tierSchema } from '../session-view.ts';
import { MAX_PAGE, pageLimit, type Route } from './route.ts';

/** Longest wait for the end of a run in one call, ms. */
const MAX_RUN_WAIT_MS = 60_000;

const threadParams = z.object({ thread: threadSchema });
const runParams = threadParams.extend({ id: runIdSchema });
const projectQuery = z.object({ project: projectQuerySchema });

export const SESSION_ROUTES = {
  createSession: {
    method: 'POST',
    path: '/api/sessions',
    tag: 'sessions',
    summary: 'Begin a session: a workspace in a microVM, for the runs of one thread',
    description:
      'Find-or-create by `thread`: the same thread with the same settings answers for the same session (200), with others it is a CONFLICT (409). No VM is started before its first run. A first run creates the session by itself, with the defaults.',
    query: projectQuery,
    body: createSessionBodySchema,
    responses: { 200: sessionViewSchema, 201: sessionViewSchema },
  },
  listSessions: {
    method: 'GET',
    path: '/api/sessions',
    tag: 'sessions',
    summary: 'List sessions, newest first',
    description: 'Covers what Temporal remembers, and follows the tiers with a short delay. Without `project`: of all.',
    query: projectQuery.extend({
      tier: tierSchema.exactOptional(),
      cursor: cursorSchema.exactOptional().meta({ description: '`next` of the page before.' }),
      limit: pageLimit(MAX_PAGE, 50),
    }),
    responses: { 200: sessionPageSchema },
  },
  getSession: {
    method: 'GET',
    path: '/api/sessions/:thread',
    tag: 'sessions',
    summary: 'One session: its tier, what runs, what waits, and why',
    params: threadParams,
    query: projectQuery,
    responses: { 200: sessionViewSchema },
  },
  patchSession: {
    method: 'PATCH',
    path: '/api/sessions/:thread',
    tag: 'sessions',
    summary: 'Change settings of a session',
    description: 'Egress and tiers are in force at once, resources at the next boot of its VM. Idempotent.',
    params: threadParams,
    query: projectQuery,
    body: patchSessionBodySchema,
    responses: { 200: sessionViewSchema },
  },
  closeSession: {
    method: 'POST',
    path: '/api/sessions/:thread/close',
    tag: 'sessions',
    summary: 'Close a session',
    description:
      'Idempotent. The present run and those that wait are cancelled, the workspace is saved, and the VM goes. 200 once it is closed, 202 where that takes longer than `waitMs`.',
    params: threadParams,
    query: projectQuery,
    body: z.strictObject({ waitMs: z.int().min(0).max(MAX_RUN_WAIT_MS).default(30_000) }).prefault({}),
    responses: { 200: sessionViewSchema, 202: sessionViewSchema },
  },
  deleteSession: {
    method: 'DELETE',
    path: '/api/sessions/:thread',
    tag: 'sessions',
    summary: 'Delete a session, with everything that its thread ever had',
    description:
      'Closes it, then removes keys, messages, runs, output and archived histories of all sessions of the thread; what stays is a record that says so, and what was sealed in histories that Temporal still keeps, which nobody can read any more. Idempotent: repeat it after 202 or an error. The thread forgets its run ids; a run with `ifEnded: "restart"` begins anew.',
    params: threadParams,
    query: projectQuery.extend({
      waitMs: z.coerce.number().int().min(0).max(MAX_RUN_WAIT_MS).default(30_000).meta({
        description: 'How long to wait for its close.',
      }),
    }),
    responses: { 200: sessionViewSchema, 202: sessionViewSchema },
  },
  sleepSession: {
    method: 'POST',
    path: '/api/sessions/:thread/sleep',
    tag: 'sessions',
    summary: 'Let a session sleep',
    description:
      'Its VM goes as soon as its runs have ended and its workspace is in the store; the next run, or use of its files, wakes it. Idempotent. 200 once it has no VM, 202 where that takes longer than `waitMs`.',
    params: threadParams,
    query: projectQuery,
    body: z.strictObject({ waitMs: z.int().min(0).max(MAX_RUN_WAIT_MS).default(30_000) }).prefault({}),
    responses: { 200: sessionViewSchema, 202: sessionViewSchema },
  },
  forkSession: {
    method: 'POST',
    path: '/api/sessions/:thread/fork',
    tag: 'sessions',
    summary: 'Copy a session to another thread. Not possible yet: UNSUPPORTED',
    params: threadParams,
    query: projectQuery,
    body: forkSessionBodySchema,
    responses: { 201: sessionViewSchema },
  },
  sendRun: {
    method: 'POST',
    path: '/api/sessions/:thread/runs',
    tag: 'sessions',
    summary: 'Send a run to a thread',
    description:
      'The same id with the same body is one run, for ever (another body: 409). Runs of a thread go one after another. 202 once it is accepted, 200 where it has ended. 503: nothing is known, repeat it with the same id.',
    params: threadParams,
    query: projectQuery.extend({
      wait: z.enum(['finished', 'saved']).exactOptional().meta({
        description:
          'Answer once the run has ended, or waitMs are over. `saved`: once what it has left in the workspace is in the store, too; `saved` of the run says whether it is.',
      }),
      waitMs: z.coerce.number().int().min(0).max(MAX_RUN_WAIT_MS).default(MAX_RUN_WAIT_MS),
    }),
    body: sendRunBodySchema,
    responses: { 200: runViewSchema, 202: runViewSchema },
  },
  listRuns: {
    method: 'GET',
    path: '/api/sessions/:thread/runs',
    tag: 'sessions',
    summary: 'The runs of a session that wait or run, and the last that ended: the newest first',
    params: threadParams,
    query: projectQuery.extend({ limit: pageLimit(MAX_PAGE, 50) }),
    responses: { 200: runListSchema },
  },
  getRun: {
    method: 'GET',
    path: '/api/sessions/:thread/runs/:id',
    tag: 'sessions',
    summary: 'One run, also long after its session has ended',
    params: runParams,
    query: projectQuery.extend({
      waitMs: z.coerce.number().int().min(0).max(MAX_RUN_WAIT_MS).default(0).meta({
        description: 'How long to wait for its end.',
      }),
    }),
    responses: { 200: runViewSchema },
  },
  cancelRun: {
    method: 'DELETE',
    path: '/api/sessions/:thread/runs/:id',
    tag: 'sessions',
    summary: 'Cancel a run that waits or runs',
    description: 'One that has ended stays as it ended. 202 where its process is still being killed.',
    params: runParams,
    query: projectQuery,
    responses: { 200: runViewSchema, 202: runViewSchema },
  },
  streamRunOutput: {
    method: 'GET',
    path: '/api/sessions/:thread/runs/:id/output',
    tag: 'sessions',
    summary: 'The output of a run as it is written, as server-sent events',
    description:
      'Events `output` with `{stream, offset, base64}` (their id is the position behind them, also for `Last-Event-ID` and `after`), `gap` with `{offset, bytes}` for output that was dropped, and `end` with the run once it is over. It may be followed before the run begins.',
    params: runParams,
    query: projectQuery.extend({
      after: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).exactOptional().meta({
        description: 'Position behind the last byte that is known already.',
      }),
    }),
    content: 'text/event-stream',
  },
} as const satisfies Record<string, Route>;
