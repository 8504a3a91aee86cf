/** The newest lines of one writer, in bounded memory: a reader that is not far behind needs no disk and no store. */

import type { Stage } from '../workload/stages.ts';
import type { NumberedLogEntry } from './log-entry.ts';
import type { LogStage } from './log-stage.ts';

export interface RecentLinesBounds {
  readonly maxLines: number;
  /** Total length of all messages, UTF-16 units. */
  readonly maxUnits: number;
}

export interface RecentLines<S extends LogStage = Stage> {
  /** Number that the next line should have. */
  readonly next: number;
  /** Forgets everything; the next line should have the number `next`. */
  restart(next: number): void;
  /** Adds lines in the order of their numbers. After a gap, only these lines and later ones remain. */
  push(entries: readonly NumberedLogEntry<S>[]): void;
  /** @returns all lines above number `after`; undefined where some of them are gone */
  after(after: number): readonly NumberedLogEntry<S>[] | undefined;
}

/** @returns an empty memory whose first line should have the number `next`. */
export function createRecentLines<S extends LogStage = Stage>(bounds: RecentLinesBounds, next = 0): RecentLines<S> {
  let lines: NumberedLogEntry<S>[] = [];
  let units = 0;
  let following = next;
  const first = () => lines[0]?.n ?? following;
  const trim = (): void => {
    let drop = Math.max(0, lines.length - bounds.maxLines);
    units = lines.slice(drop).reduce((sum, { message }) => sum + message.length, 0);
    while (units > bounds.maxUnits) {
      units -= lines[drop]?.message.length ?? units;
      drop += 1;
    }
    if (drop > 0) lines = lines.slice(drop);
  };
  return {
    get next() {
      return following;
    },
    restart(from) {
      lines = [];
      units = 0;
      following = from;
    },
    push(entries) {
      for (const entry of entries) {
        if (entry.n < following) continue;
        if (entry.n > following) lines = [];
        lines.push(entry);
        following = entry.n + 1;
      }
      trim();
    },
    after(after) {
      if (after + 1 < first()) return undefined;
      return lines.slice(after + 1 - first());
    },
  };
}
