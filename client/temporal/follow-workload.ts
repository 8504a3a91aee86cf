/** Follow: the moves between stages and the lines of the log, in one order, until the workload is over. */
import { setTimeout as delay } from 'node:timers/promises';
import {
  advance,
  decodeLogCursor,
  encodeLogCursor,
  type LogPositions,
  writerKey,
} from '../../contracts/api/log-page.ts';
import { isKilnError } from '../../domain/failures.ts';
import type { LogEntry, NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { mergeQueues } from '../../domain/logs/merge-queues.ts';
import { STAGE_WRITER, stageLogEntries } from '../../domain/workload/stage-log.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import type { StageMove, WorkloadState } from '../../domain/workload/workload.ts';
import type { WorkloadSnapshot } from './client-context.ts';
import type { WorkloadLogs } from './workload-logs.ts';
import type { WorkloadClient } from './workloads/workload-client.ts';

/** `cursor` continues after its event. */
export type WorkloadEvent =
  | { readonly kind: 'stage'; readonly cursor: string; readonly move: StageMove }
  | { readonly kind: 'log'; readonly cursor: string; readonly entry: LogEntry }
  /** The workload is over and all of its lines were yielded. Nothing follows. */
  | { readonly kind: 'end'; readonly snapshot: WorkloadSnapshot };

export interface FollowOptions {
  /** Cursor of the earlier event to continue after. */
  readonly after?: string;
  /** Ends the following without an error. */
  readonly signal?: AbortSignal;
  /** Pause between two reads, ms; default 500. */
  readonly pollMs?: number;
  /** How long Temporal or the store may be away before the following fails, ms; default 60,000. */
  readonly giveUpAfterMs?: number;
}

const DEFAULTS = { pollMs: 500, giveUpAfterMs: 60_000 };
const LINES_AT_ONCE = 1000;

/**
 * Yields the events of a workload until it is over or the signal is aborted; then it returns.
 * @throws NOT_FOUND, SPEC_INVALID (cursor); TEMPORAL_UNAVAILABLE, STORE_UNAVAILABLE after `giveUpAfterMs`
 */
export async function* followWorkload(
  workloads: Pick<WorkloadClient, 'get'>,
  logs: WorkloadLogs,
  id: string,
  options: FollowOptions = {},
): AsyncGenerator<WorkloadEvent, void> {
  const { pollMs, giveUpAfterMs } = { ...DEFAULTS, ...options };
  const { signal } = options;
  const isAborted = () => signal?.aborted === true;
  let positions: LogPositions = options.after === undefined ? {} : decodeLogCursor(options.after);
  let awaySince: number | undefined;
  while (!isAborted()) {
    try {
      const snapshot = await workloads.get(id);
      for (let more = true; more && !isAborted(); ) {
        const page = await nextLines(logs, snapshot.state, positions);
        awaySince = undefined;
        for (const entry of page.entries) {
          positions = advance(positions, entry);
          yield eventOf(entry, snapshot.state, encodeLogCursor(positions));
        }
        more = page.left;
      }
      // A workflow that is still open may write lines after it has shown its final stage.
      if (isFinal(snapshot.state.stage) && snapshot.isOpen !== true && !isAborted()) {
        yield { kind: 'end', snapshot };
        return;
      }
    } catch (error) {
      awaySince ??= Date.now();
      if (!isKilnError(error) || !error.retryable || Date.now() - awaySince >= giveUpAfterMs) throw error;
    }
    await delay(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }
}

async function nextLines(
  logs: WorkloadLogs,
  state: WorkloadState,
  positions: LogPositions,
): Promise<{ entries: NumberedLogEntry[]; left: boolean }> {
  const after = (writer: { epoch: number; writer: string }) => positions[writerKey(writer)] ?? -1;
  const queues: (readonly NumberedLogEntry[])[] = [stageLogEntries(state).filter((entry) => entry.n > after(entry))];
  for (const writer of await logs.writers(state.workloadId)) {
    queues.push(await logs.read(writer, { after: after(writer), limit: LINES_AT_ONCE }));
  }
  // A queue that was cut may continue with lines that are older than those of the others.
  return mergeQueues(
    queues.map((entries) => ({ entries, goesOn: entries.length >= LINES_AT_ONCE })),
    LINES_AT_ONCE,
  );
}

function eventOf(entry: NumberedLogEntry, { moves }: WorkloadState, cursor: string): WorkloadEvent {
  const move = entry.writer === STAGE_WRITER && entry.epoch === 0 ? moves[entry.n] : undefined;
  if (move !== undefined) return { kind: 'stage', cursor, move };
  const { timestamp, stage, message, level } = entry;
  return { kind: 'log', cursor, entry: { timestamp, stage, message, level } };
}
