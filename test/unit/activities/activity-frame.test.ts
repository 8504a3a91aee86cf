import { ActivityCancellationDetails } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { describe, expect, it } from 'vitest';
import { framed } from '../../../activities/activity-frame.ts';

/** Runs an activity that nothing ends, and cancels it. @returns whether it still sends heartbeats */
async function beatsAfter(details: ConstructorParameters<typeof ActivityCancellationDetails>[0]): Promise<boolean> {
  const environment = new MockActivityEnvironment({ heartbeatTimeoutMs: 40 });
  const beats = { count: 0 };
  const nextBeats = async (least: number) => {
    for (let turn = 0; turn < 20 && beats.count < least; turn++) await new Promise((done) => setTimeout(done, 10));
  };
  environment.on('heartbeat', () => beats.count++);
  const work = Promise.withResolvers<void>();
  const ended = environment.run(() => framed(() => work.promise));
  await nextBeats(3);
  environment.cancel('CANCELLED', new ActivityCancellationDetails(details));
  await Promise.resolve();
  const before = beats.count;
  expect(before).toBeGreaterThanOrEqual(3);
  await nextBeats(before + 3);
  work.resolve();
  await ended;
  return beats.count > before;
}

describe('an activity that goes on after', () => {
  it.each([
    ['its workflow has asked it to end', { cancelRequested: true }, true],
    ['the server has forgotten it', { notFound: true }, false],
    ['its time is over', { timedOut: true }, false],
    ['an operator has reset it', { reset: true }, false],
  ])('%s %o: sends heartbeats: %s', async (_why, details, beats) => {
    expect(await beatsAfter(details)).toBe(beats);
  });
});
