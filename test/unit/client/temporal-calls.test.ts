import { ServiceError } from '@temporalio/client';
import { expect, it } from 'vitest';
import { sentUntilReady } from '../../../client/temporal/temporal-calls.ts';

/** As the server says it of an update in a workflow task that failed. */
const notReady = () => {
  const cause = Object.assign(new Error('9 FAILED_PRECONDITION'), { code: 9, details: '', metadata: {} });
  return new ServiceError('Unable to perform workflow execution update', { cause });
};

it('an update whose workflow task failed is sent again', async () => {
  let sent = 0;
  const answer = await sentUntilReady(async () => {
    sent += 1;
    if (sent < 3) throw notReady();
    return 'taken';
  });
  expect([answer, sent]).toEqual(['taken', 3]);
});

it('is given up after some tries, and is to be repeated by its caller', async () => {
  let sent = 0;
  const sending = sentUntilReady(async () => {
    sent += 1;
    throw notReady();
  });
  await expect(sending).rejects.toMatchObject({ code: 'TEMPORAL_UNAVAILABLE' });
  expect(sent).toBe(5);
});

it('any other failure is its answer', async () => {
  let sent = 0;
  const refused = sentUntilReady(async () => {
    sent += 1;
    throw new Error('refused');
  });
  await expect(refused).rejects.toThrow('refused');
  expect(sent).toBe(1);
});
