/** What a new workload is refused for, judged without servers; over REST and Temporal: test/workflow/create-rules.test.ts. */
import { expect, it } from 'vitest';
import { assertMayBeNew } from '../../../client/temporal/workloads/new-workload-rules.ts';
import type { SpecDocument } from '../../../contracts/store/workload-documents.ts';
import type { WorkloadRequest } from '../../../domain/workload/workload.ts';

const HOST_PORTS = { from: 20_000, to: 29_999 };
const documentOf = (request: Partial<WorkloadRequest>, workloadId = 'w-1'): SpecDocument => ({
  schemaVersion: 1,
  workloadId,
  hash: '0'.repeat(64),
  request: { servicePath: 'a', ...request },
  requestedAt: new Date(0).toISOString(),
});
const judged = (document: SpecDocument, standing?: SpecDocument) =>
  assertMayBeNew({ archive: { specDocument: async () => standing }, hostPorts: HOST_PORTS }, document);

it('a host port outside of the range is refused, for a new workload only', async () => {
  const outside = documentOf({ hostPort: 8080 });
  await expect(judged(outside)).rejects.toMatchObject({
    code: 'PORT_NOT_ALLOWED',
    message: expect.stringContaining('20000 to 29999'),
  });
  await judged(outside, outside);
  await judged(documentOf({ hostPort: 20_000 }));
  await judged(documentOf({}));
  await assertMayBeNew({ archive: { specDocument: async () => undefined } }, outside);
});
