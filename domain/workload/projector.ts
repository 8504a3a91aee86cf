import { KilnError } from '../failures.ts';
import { applyMove, EMPTY_LEDGER, type StageLedger } from './reducer.ts';
import { INITIAL_STAGE, isFinal, isStage, type Stage } from './stages.ts';

/** What matters of a workload's recorded history, in its order. A chain of continued executions is one list. */
export type RecordedEvent =
  /** The execution began; `stage` is what the start event says. */
  | { readonly kind: 'started'; readonly at: string; readonly stage: unknown }
  /** The stage attribute was set. */
  | { readonly kind: 'stage'; readonly at: string; readonly stage: unknown }
  /** The execution closed; `moves` is the list of stages that its result or failure tells, where it tells one. */
  | {
      readonly kind: 'closed';
      readonly at: string;
      readonly status: 'completed' | 'failed' | 'cancelled' | 'terminated' | 'timed-out';
      readonly told?: readonly unknown[];
    };

/**
 * Judges a recorded history with the rules the workflow itself ran under.
 * @returns the moves it records
 * @throws KilnError INVALID_TRANSITION where it is not the history of a lawful workload
 */
export function project(events: readonly RecordedEvent[]): StageLedger {
  const [first, ...rest] = events;
  if (first?.kind !== 'started' || first.stage !== INITIAL_STAGE) throw unlawful('it does not begin as pending');
  let ledger = EMPTY_LEDGER;
  let closed = false;
  for (const event of rest) {
    if (closed) throw unlawful('something follows its close');
    if (event.kind === 'stage') ledger = applyMove(ledger, { to: known(event.stage), at: event.at, cause: 'history' });
    else if (event.kind === 'closed') {
      checkClose(ledger, event);
      closed = true;
    } else if (event.stage !== ledger.stage) throw unlawful('it was continued in another stage');
  }
  if (!closed && isFinal(ledger.stage) && !endsWithStage(rest)) throw unlawful('it goes on after a final stage');
  return ledger;
}

function endsWithStage(events: readonly RecordedEvent[]): boolean {
  return events.at(-1)?.kind === 'stage';
}

/**
 * In which final stage an execution may close by itself. From outside it can be ended in any: before it came to a final
 * one, or after that, while it was writing its last lines.
 */
const LAWFUL_CLOSE: Readonly<Record<string, readonly Stage[]>> = {
  completed: ['stopped'],
  cancelled: ['stopped'],
  failed: ['failed'],
};

function checkClose(ledger: StageLedger, event: Extract<RecordedEvent, { kind: 'closed' }>): void {
  const lawful = LAWFUL_CLOSE[event.status];
  if (lawful && !lawful.includes(ledger.stage)) throw unlawful(`it closed as ${event.status} in stage ${ledger.stage}`);
  if (event.told === undefined) return;
  const recorded = ledger.moves.map((move) => move.to);
  const same = event.told.length === recorded.length && recorded.every((stage, index) => stage === event.told?.[index]);
  if (!same) throw unlawful('its result tells other moves than its events');
}

function known(stage: unknown): Stage {
  if (isStage(stage)) return stage;
  throw unlawful(`it names a stage that there is not: ${String(stage).slice(0, 40)}`);
}

function unlawful(why: string): KilnError {
  return new KilnError('INVALID_TRANSITION', `This is not the history of a workload: ${why}`);
}
