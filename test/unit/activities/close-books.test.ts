import { describe, expect, it } from 'vitest';
import { createCloseBooks } from '../../../activities/workload/close-books.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';

const at = '2026-01-01T00:00:00.000Z';
const state: WorkloadState = {
  workloadId: 'hello-1',
  servicePath: 'services/hello',
  stage: 'stopped',
  notes: [],
  unreleased: [],
  moves: [],
  createdAt: at,
  updatedAt: at,
};

/** Closes the books while writing the result document fails with this error. */
function closeAgainst(error: unknown): Promise<void> {
  const closeBooks = createCloseBooks({
    documents: {
      readSpec: () => Promise.reject(new Error('not asked for')),
      writeResult: () => Promise.reject(error),
    },
    controlLog: { append: async () => undefined },
  });
  return closeBooks({ state, logLines: [] });
}

describe('closing the books', () => {
  it.each(['INTERNAL', 'STORE_CONFLICT', 'PAYLOAD_TOO_LARGE'] as const)(
    'is tried again after %s, which is told: the books must be closed',
    async (code) => {
      await expect(closeAgainst(new KilnError(code, 'The store refused it.', { status: 418 }))).rejects.toMatchObject({
        type: 'STORE_UNAVAILABLE',
        message: 'The store refused it.',
        nonRetryable: false,
        details: [{ status: 418, code }],
      });
    },
  );

  it('leaves as they are the failures that are tried again anyway', async () => {
    await expect(closeAgainst(new KilnError('DISK_FULL', 'No room.'))).rejects.toMatchObject({
      type: 'DISK_FULL',
      nonRetryable: false,
    });
    await expect(closeAgainst(new TypeError('no function'))).rejects.toMatchObject({
      type: 'INTERNAL',
      nonRetryable: false,
    });
  });
});
