/** The rules that refuse a new workload at its create, over REST and by the Temporal client; repetitions skip them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import { createWorkloadClient, type WorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import { canonicalHash } from '../../../contracts/canonical-json.ts';
import type { WorkloadRequest } from '../../../domain/workload/workload.ts';
import { createWorkloadDocuments, type StoredWorkloads } from '../../../store/workloads/workload-documents.ts';
import { type GatewayProcess, startGatewayProcess } from '../../support/gateway/gateway-process.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const TOKEN = 'a-token-of-the-create-tests';
const PORTS = { from: 20_000, to: 29_999 };
let kiln: Harness;
let gateway: GatewayProcess;
let api: KilnClient;
let direct: WorkloadClient;
let documents: StoredWorkloads;
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'kiln-create-rules-'));
  kiln = await startHarness({ withHost: false });
  gateway = await startGatewayProcess({ namespace: kiln.namespace, bucket: kiln.store.bucket, token: TOKEN, home });
  api = createKilnClient({ apiUrl: gateway.url, token: TOKEN });
  documents = createWorkloadDocuments(kiln.store);
  direct = createWorkloadClient({ client: kiln.temporal, archive: documents, hostPorts: PORTS });
});
afterAll(async () => {
  await gateway?.close();
  await kiln?.close();
  await rm(home, { recursive: true, force: true });
});

const REFUSED: [what: string, id: string, request: Partial<WorkloadRequest>, code: string][] = [
  ['an id with a hyphen at its end', 'a-', {}, 'SPEC_INVALID'],
  ['an id with a hyphen at its beginning', '-a', {}, 'SPEC_INVALID'],
  ['an id that is a hyphen', '-', {}, 'SPEC_INVALID'],
  ['a deployment that does not exist', 'no-deployment', { deploymentId: 'none' }, 'NOT_FOUND'],
  ['a host port outside of the range', 'no-port', { hostPort: 8080 }, 'PORT_NOT_ALLOWED'],
];

const requestOf = (more: Partial<WorkloadRequest>): WorkloadRequest => ({ servicePath: 'plain', ...more });
const ways: [string, (request: WorkloadRequest, id: string) => Promise<unknown>][] = [
  ['REST', (request, id) => api.createWorkload({ body: { ...request, id } })],
  ['the Temporal client', (request, id) => direct.create(request, id)],
];

describe.each(ways)('by %s', (_way, create) => {
  it.each(REFUSED)('%s is refused at once, and nothing is kept of it', async (_what, id, more, code) => {
    await expect(create(requestOf(more), id)).rejects.toMatchObject({ code });
    expect(await documents.specDocument(id)).toBeUndefined();
  });
});

it('the refusal is a problem document with a status that says whose fault it is', async () => {
  const answers = await Promise.all(
    REFUSED.map(async ([, id, more]) => {
      const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
      const body = JSON.stringify({ ...requestOf(more), id });
      return (await fetch(`${gateway.url}/api/workloads`, { method: 'POST', headers, body })).status;
    }),
  );
  expect(answers).toEqual([400, 400, 400, 404, 400]);
});

it.each(REFUSED)(
  '%s of a workload that was accepted before: a repeated create answers for it',
  async (_what, id, more) => {
    const request = requestOf(more);
    const facts = { schemaVersion: 1 as const, workloadId: id, requestedAt: new Date(0).toISOString() };
    await documents.createSpec({ ...facts, request, hash: await canonicalHash(request) });
    const { created } = await direct.create(request, id);
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
    const repeated = await fetch(`${gateway.url}/api/workloads`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ ...request, id }),
    });
    expect([created, repeated.status]).toEqual([false, 200]);
    await direct.stop(id, { waitMs: 20_000 });
    await expect(api.createWorkload({ body: { ...request, id } })).resolves.toMatchObject({ id });
  },
);

it('a deployment that exists may be named', async () => {
  await api.createDeployment({ body: { id: 'd1', projectId: 'p', serviceName: 's', servicePath: 'plain' } });
  const view = await api.createWorkload({
    body: { id: 'named', servicePath: 'plain', deploymentId: 'd1', hostPort: 20_001 },
  });
  expect(view.deploymentId).toBe('d1');
  await direct.stop('named', { waitMs: 20_000 });
});

it('a session is refused egress to a port for which the gateway knows no name', async () => {
  const thread = 'too-far';
  await expect(api.createSession({ body: { thread, egress: ['db.corp:5432'] } })).rejects.toMatchObject({
    code: 'SPEC_INVALID',
    message: expect.stringContaining('"db.corp:5432"'),
  });
  await expect(api.getSession({ params: { thread } })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
