/** What a session with many runs has left behind, and what would be wrong with it. Pure. */
import type { FetchedHistory } from '../client/temporal/archive/recorded-events.ts';
import type { EndedRun } from '../domain/session/run-book.ts';
import { MAX_CARRIED_BYTES } from '../domain/session/session-state.ts';

export interface LongLife {
  /** Ids in the order in which they were sent. */
  readonly sent: readonly string[];
  /** How they ended, in that order. */
  readonly runs: readonly Pick<EndedRun, 'id' | 'turn' | 'outcome'>[];
  /** Ids as the runs themselves have noted them, one for each start. */
  readonly started: readonly string[];
  /** Length of the history of each execution. */
  readonly events: readonly number[];
  /** Size of the state that each execution but the last has handed to the next. */
  readonly carriedBytes: readonly number[];
}

/** @returns the bytes of the input of every next execution, as they were sent */
export function carriedSizes(histories: readonly FetchedHistory[]): number[] {
  return histories.flatMap(({ events }) =>
    (events ?? []).flatMap(({ workflowExecutionContinuedAsNewEventAttributes: continued }) => {
      const payloads = continued?.input?.payloads;
      return payloads ? [payloads.reduce((sum, { data }) => sum + (data?.length ?? 0), 0)] : [];
    }),
  );
}

/** @returns what is wrong, one line each; empty = nothing */
export function wrongInLongLife({ sent, runs, started, events, carriedBytes }: LongLife): string[] {
  const wrong: string[] = [];
  for (const [index, id] of sent.entries()) {
    const run = runs[index];
    if (run?.id !== id || run.turn !== index + 1)
      wrong.push(`${id} was sent as number ${index + 1} and has turn ${run?.turn}`);
    if (run?.outcome.as !== 'finished' || run.outcome.code !== 0) wrong.push(`${id}: ${JSON.stringify(run?.outcome)}`);
    const starts = started.filter((other) => other === id).length;
    if (starts !== 1) wrong.push(`${id} was started ${starts} times`);
  }
  if (started.join() !== sent.join()) wrong.push('runs were not started in the order in which they were sent');
  for (const bytes of carriedBytes) if (bytes > MAX_CARRIED_BYTES) wrong.push(`${bytes} bytes were carried on`);
  if (carriedBytes.length !== events.length - 1)
    wrong.push(`${events.length} executions, ${carriedBytes.length} handed on`);
  return wrong;
}

/** @param replayed executions that replay */
export function longLifeTable({ sent, started, events, carriedBytes }: LongLife, replayed: number): string[] {
  return [
    `runs sent, started            ${sent.length}, ${started.length}`,
    `executions, replayed          ${events.length}, ${replayed}`,
    `events of each                ${events.join(', ')}`,
    `largest history, events       ${Math.max(...events)}`,
    `bytes carried on, each time   ${carriedBytes.length === 0 ? 'never' : carriedBytes.join(', ')}`,
  ];
}
