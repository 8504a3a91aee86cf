/** Views of runs and sessions as an API of a test answers with them. */
import type { RunView, SessionView } from '../../../contracts/api/session-view.ts';
import { at } from './cli-fixtures.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

/** @returns a run of thread `thread-42`; without more it waits. */
export function runViewWith(id: string, more: Partial<RunView> = {}): RunView {
  const self = `/api/sessions/thread-42/runs/${id}`;
  return {
    id,
    thread: 'thread-42',
    project: 'default',
    state: 'waiting',
    acceptedAt: at(0),
    links: { self: `${self}?project=default`, output: `${self}/output?project=default` },
    ...more,
  };
}

/** @returns a run that has exited */
export function finishedRun(id: string, exit: Partial<NonNullable<RunView['exit']>> = {}): RunView {
  const times = { turn: 1, startedAt: at(1), endedAt: at(2) };
  return runViewWith(id, {
    state: 'finished',
    ...times,
    exit: { code: 0, signal: null, outputBytes: 0, ...exit },
  });
}

/** @returns a session of thread `thread-42`; without more it is warm after three runs. */
export function sessionViewWith(more: Partial<SessionView> = {}): SessionView {
  return {
    thread: 'thread-42',
    project: 'default',
    tier: 'warm',
    settings: {
      image: { name: 'node', digest: DIGEST },
      resources: { vcpus: 1, memMib: 512, diskMib: 2048 },
      egress: [],
      tiers: { idleMs: 900_000, ttlMs: 2_592_000_000 },
    },
    createdAt: at(0),
    expiresAt: at(2_592_000),
    turns: 3,
    waiting: [],
    events: [],
    links: { self: '/api/sessions/thread-42?project=default', runs: '/api/sessions/thread-42/runs?project=default' },
    ...more,
  };
}
