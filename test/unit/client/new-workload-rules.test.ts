/** The rules that refuse a new workload, without servers. Over REST and Temporal: workflow/api/create-rules.test.ts. */
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
const archiveOf = (standing?: SpecDocument) => ({
  specDocument: async () => standing,
  hasDeployment: async (id: string) => id === 'there',
});
const judged = (document: SpecDocument, standing?: SpecDocument) =>
  assertMayBeNew({ archive: archiveOf(standing), hostPorts: HOST_PORTS }, document);

it('a host port outside of the range is refused, for a new workload only', async () => {
  const outside = documentOf({ hostPort: 8080 });
  await expect(judged(outside)).rejects.toMatchObject({
    code: 'PORT_NOT_ALLOWED',
    message: expect.stringContaining('20000 to 29999'),
  });
  await judged(outside, outside);
  await judged(documentOf({ hostPort: 20_000 }));
  await judged(documentOf({}));
  await assertMayBeNew({ archive: archiveOf() }, outside);
});

it.each(['a-', '-a', '-', '--', `${'a'.repeat(39)}-`])(
  'the id %s, no host name, is refused for a new workload only',
  async (id) => {
    const document = documentOf({}, id);
    await expect(judged(document)).rejects.toMatchObject({
      code: 'SPEC_INVALID',
      message: expect.stringContaining('host name'),
    });
    await judged(document, document);
  },
);

it.each(['a', '0', 'a-b', 'a--b', 'a'.repeat(40)])('the id %s is taken', async (id) => {
  await judged(documentOf({}, id));
});

it('a deployment that does not exist is refused, for a new workload only', async () => {
  const document = documentOf({ deploymentId: 'none' });
  await expect(judged(document)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await judged(document, document);
  await judged(documentOf({ deploymentId: 'there' }));
});

it('a port in the guest at which guests reach private names is refused, for a new workload only', async () => {
  const rules = { privateNames: ['db.corp:5432', 'gateway.corp:8080', 'gateway.corp:443'] };
  const judgedBy = (document: SpecDocument, standing?: SpecDocument) =>
    assertMayBeNew({ archive: archiveOf(standing), ...rules }, document);
  for (const document of [documentOf({ port: 5432 }), documentOf({})]) {
    await expect(judgedBy(document)).rejects.toMatchObject({
      code: 'SPEC_INVALID',
      message: expect.stringContaining('KILN_EGRESS_PRIVATE; give another `port`'),
    });
    await judgedBy(document, document);
  }
  await judgedBy(documentOf({ port: 3000 }));
});
