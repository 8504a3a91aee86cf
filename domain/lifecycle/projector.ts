/** Judges recorded histories with the rules that their workflows ran under. Pure. */
import { KilnError } from '../failures.ts';
import {
  applyTransition,
  type CloseStatus,
  emptyLedger,
  isFinalState,
  isStateOf,
  type Lifecycle,
  type TransitionLedger,
} from './lifecycle.ts';

/** The relevant events of a recorded history, in order. A chain of continued executions is one list. */
export type RecordedEvent =
  /** The execution began; `state` is what the start event says. */
  | { readonly kind: 'started'; readonly at: string; readonly state: unknown }
  /** The search attribute of the state was set. */
  | { readonly kind: 'moved'; readonly at: string; readonly state: unknown }
  /** The execution closed; `told` is the list of states in its result or failure, where there is one. */
  | {
      readonly kind: 'closed';
      readonly at: string;
      readonly status: CloseStatus;
      readonly told?: readonly unknown[];
    };

/**
 * @returns the moves that a history records
 * @throws KilnError INVALID_TRANSITION where the history breaks the rules of this lifecycle
 */
export function project<S extends string>(
  lifecycle: Lifecycle<S>,
  events: readonly RecordedEvent[],
): TransitionLedger<S> {
  const [first, ...rest] = events;
  if (first?.kind !== 'started' || first.state !== lifecycle.initial) {
    throw unlawful(lifecycle, `it does not begin as ${lifecycle.initial}`);
  }
  let ledger = emptyLedger(lifecycle);
  let closed = false;
  for (const event of rest) {
    if (closed) throw unlawful(lifecycle, 'something follows its close');
    if (event.kind === 'moved') {
      const to = known(lifecycle, event.state);
      ledger = applyTransition(lifecycle, ledger, { to, at: event.at, cause: 'history' });
    } else if (event.kind === 'closed') {
      checkClose(lifecycle, ledger, event);
      closed = true;
    } else if (event.state !== ledger.state) throw unlawful(lifecycle, 'it was continued in another state');
  }
  if (!closed && isFinalState(lifecycle, ledger.state) && rest.at(-1)?.kind !== 'moved') {
    throw unlawful(lifecycle, 'it goes on after a final state');
  }
  return ledger;
}

/**
 * An execution can be ended from outside in any state: before a final state, or after it, while the workflow was
 * writing its last lines.
 */
function checkClose<S extends string>(
  lifecycle: Lifecycle<S>,
  ledger: TransitionLedger<S>,
  event: Extract<RecordedEvent, { kind: 'closed' }>,
): void {
  const lawful = lifecycle.lawfulClose[event.status];
  if (lawful && !lawful.includes(ledger.state)) {
    throw unlawful(lifecycle, `it closed as ${event.status} in ${ledger.state}`);
  }
  if (event.told === undefined) return;
  const recorded = ledger.moves.map((move) => move.to);
  const same = event.told.length === recorded.length && recorded.every((state, index) => state === event.told?.[index]);
  if (!same) throw unlawful(lifecycle, 'its result tells other moves than its events');
}

function known<S extends string>(lifecycle: Lifecycle<S>, state: unknown): S {
  if (isStateOf(lifecycle, state)) return state;
  throw unlawful(lifecycle, `it names a state that there is not: ${String(state).slice(0, 40)}`);
}

function unlawful({ noun }: Lifecycle<string>, why: string): KilnError {
  return new KilnError('INVALID_TRANSITION', `This is not the history of a ${noun}: ${why}`);
}
