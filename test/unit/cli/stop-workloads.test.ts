import { describe, expect, it } from 'vitest';
import { stopAllWorkloads } from '../../../cli/dev/stop-workloads.ts';
import type { KilnClient } from '../../../client/http/kiln-client.ts';
import { KilnError } from '../../../domain/failures.ts';
import { apiWith, viewAt } from '../../support/gateway/cli-fixtures.ts';

const AWAY = new KilnError('TEMPORAL_UNAVAILABLE', 'Temporal does not answer.');

/** A stack with three running workloads; the first calls for each fail as many times as given. */
function stackOf(failing: { stops?: Record<string, number>; looks?: Record<string, number> }) {
  const stopped = new Set<string>();
  const stops: string[] = [];
  const left = { stops: { ...failing.stops }, looks: { ...failing.looks } };
  const failAsTold = (kind: keyof typeof left, id: string): void => {
    const times = left[kind][id] ?? 0;
    left[kind][id] = times - 1;
    if (times > 0) throw AWAY;
  };
  const viewOf = (id: string) => ({
    ...viewAt(
      stopped.has(id)
        ? [
            ['pending', 0],
            ['stopped', 1],
          ]
        : [['pending', 0]],
    ),
    id,
  });
  const api: KilnClient = apiWith({
    listWorkloads: async ({ query } = {}) => ({
      items: query?.stage === 'running' ? ['a', 'b', 'c'].map((id) => viewOf(id)) : [],
    }),
    stopWorkload: async ({ params: { id } }) => {
      stops.push(id);
      failAsTold('stops', id);
      stopped.add(id);
      return viewOf(id);
    },
    getWorkload: async ({ params: { id } }) => {
      failAsTold('looks', id);
      return viewOf(id);
    },
  });
  return { api, stops, stopped };
}

const said: string[] = [];
const options = { pollMs: 1, reason: 'the stack was stopped', say: (text: string) => said.push(text) };

describe('stopping all workloads', () => {
  it('goes on to the others where one cannot be asked, and comes back to it', async () => {
    const { api, stops } = stackOf({ stops: { a: 2 }, looks: { b: 1 } });
    expect(await stopAllWorkloads(api, { ...options, deadlineMs: 60_000 })).toEqual([]);
    expect(stops).toEqual(['a', 'b', 'c', 'a', 'a']);
  });

  it('names those that did not end, and what was in the way', async () => {
    const { api, stopped } = stackOf({ stops: { a: Number.POSITIVE_INFINITY } });
    expect(await stopAllWorkloads(api, { ...options, deadlineMs: 50 })).toEqual(['a']);
    expect([...stopped]).toEqual(['b', 'c']);
    expect(said.at(-1)).toBe('a: Temporal does not answer.');
  });
});
