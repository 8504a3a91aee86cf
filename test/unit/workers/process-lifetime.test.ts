import { describe, expect, it } from 'vitest';
import { endOnFailure } from '../../../workers/process-lifetime.ts';

describe('a process that has one work', () => {
  it('ends where that fails, whatever else keeps it alive, after its caller was told why', async () => {
    const told: unknown[] = [];
    const ended = Promise.withResolvers<void>();
    const fatal = new Error('the poller died');
    const work = endOnFailure(
      () => Promise.reject(fatal),
      (code) => {
        told.push(code);
        ended.resolve();
      },
    );
    await work.catch((error: unknown) => told.push(error));
    await ended.promise;
    expect(told).toEqual([fatal, 1]);
  });

  it('is left to end by itself where its work came to an end', async () => {
    const codes: number[] = [];
    await endOnFailure(
      async () => undefined,
      (code) => codes.push(code),
    );
    await new Promise((resolve) => setImmediate(resolve));
    expect(codes).toEqual([]);
  });
});
