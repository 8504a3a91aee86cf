/** Merges the lines of several writers into one log. */
import { compareLogEntries, type NumberedLogEntry } from './log-entry.ts';

/**
 * Repeatedly takes the earliest entry at the head of any queue. Lines of one writer stay in the order of their numbers,
 * whatever its clock did, so that a cursor never skips a line.
 * @param queues `goesOn`: more lines exist than the queue holds, so nothing may overtake its end
 */
export function mergeQueues(
  queues: readonly { readonly entries: readonly NumberedLogEntry[]; readonly goesOn: boolean }[],
  limit: number,
): { entries: NumberedLogEntry[]; left: boolean } {
  const heads = queues.map((queue) => ({ ...queue, next: 0 }));
  const entries: NumberedLogEntry[] = [];
  for (;;) {
    if (heads.some((head) => head.goesOn && head.next >= head.entries.length)) return { entries, left: true };
    let best: { head: (typeof heads)[number]; entry: NumberedLogEntry } | undefined;
    for (const head of heads) {
      const entry = head.entries[head.next];
      if (entry !== undefined && (best === undefined || compareLogEntries(entry, best.entry) < 0))
        best = { head, entry };
    }
    if (best === undefined) return { entries, left: false };
    if (entries.length >= limit) return { entries, left: true };
    entries.push(best.entry);
    best.head.next += 1;
  }
}
