import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { archivedEvents } from '../../../client/temporal/archive/archived-events.ts';
import { recordedEvents } from '../../../client/temporal/archive/recorded-events.ts';
import type { ArchivedExecution } from '../../../client/temporal/archive/workload-archive.ts';
import { project } from '../../../domain/workload/projector.ts';

const FOLDER = fileURLToPath(new URL('../../histories', import.meta.url));
const historySchema = z.object({ events: z.array(z.record(z.string(), z.unknown())) });
const startSchema = z.object({
  workflowExecutionStartedEventAttributes: z.object({
    originalExecutionRunId: z.string(),
    continuedExecutionRunId: z.string().exactOptional(),
  }),
});
type History = z.infer<typeof historySchema>;

const historyOf = (name: string): History =>
  historySchema.parse(JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')));

function archivedAs(history: History, executionId?: string): ArchivedExecution {
  const { originalExecutionRunId } = startSchema.parse(history.events[0]).workflowExecutionStartedEventAttributes;
  return { executionId: executionId ?? originalExecutionRunId, events: history.events.length, history };
}

describe('archived events', () => {
  it.each([
    ['plain-100'],
    ['early-build-fails'],
    ['cancelled'],
    ['terminated'],
    ['lost'],
    ['continued', 'continued.1'],
  ])('of %s are those that were fetched', (...names) => {
    const histories = names.map(historyOf);
    const events = archivedEvents(
      'w',
      histories.map((history) => archivedAs(history)),
    );
    expect(events).toEqual(recordedEvents(histories.map((history) => historyFromJSON(history))));
    expect(project(events).moves.length).toBeGreaterThan(0);
  });

  const whole = historyOf('plain-100');
  const [first, second] = [historyOf('continued'), historyOf('continued.1')];
  it.each<[string, ArchivedExecution[]]>([
    ['that is no history', [{ ...archivedAs(whole), history: { events: 'many' } }]],
    ['of null', [{ ...archivedAs(whole), history: null }]],
    ['with an event less', [{ ...archivedAs(whole), history: { events: whole.events.slice(0, -1) } }]],
    [
      'without a time',
      [{ ...archivedAs(whole), history: { events: whole.events.map(() => ({ eventTime: 'soon' })) } }],
    ],
    ['without its first execution', [archivedAs(second)]],
    ['in another order', [archivedAs(second), archivedAs(first)]],
    ['with another execution before it', [archivedAs(first, 'another'), archivedAs(second)]],
  ])('%s are refused', (_name, executions) => {
    expect(() => archivedEvents('w', executions)).toThrow(expect.objectContaining({ code: 'ARCHIVE_CORRUPT' }));
  });
});
