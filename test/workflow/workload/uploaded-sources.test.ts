/** Workloads whose code was uploaded: none of it is on the host beforehand. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storeKeys } from '../../../domain/names.ts';
import { packForUpload } from '../../../sources/pack-for-upload.ts';
import { createSources } from '../../../store/sources/sources.ts';
import { SERVICES } from '../../support/workers/harness-workers.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

let kiln: Harness;
let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'kiln-sources-'));
  // An empty project root: everything that runs must have come through the store.
  kiln = await startHarness({ projectRoot: scratch });
});
afterAll(async () => {
  await kiln.close();
  await rm(scratch, { recursive: true });
});

async function uploaded(service: string): Promise<{ sha256: string }> {
  const tarPath = join(scratch, `${randomUUID()}.tar`);
  const limits = { maxBytes: 10_000_000, maxEntries: 1_000, allowSecrets: [] };
  const { sha256, bytes, files } = await packForUpload(join(SERVICES, service), tarPath, limits);
  await createSources(kiln.store).save(tarPath, { sha256, bytes, files: files.length });
  return { sha256 };
}

describe('a workload of uploaded sources', () => {
  it('runs; a second one is built from the copy that the host kept', async () => {
    const source = await uploaded('plain');
    await kiln.workloads.create({ servicePath: '.', source }, 'up-1');
    const first = await kiln.untilStage('up-1', 'running');
    expect((await fetch(`http://127.0.0.1:${first.vm?.port}/`)).status).toBe(200);
    await kiln.store.delete(storeKeys.sourceTar(source.sha256));
    await kiln.workloads.create({ servicePath: '.', source }, 'up-2');
    const second = await kiln.untilStage('up-2', 'running');
    for (const id of ['up-1', 'up-2']) await kiln.workloads.stop(id, { waitMs: 20_000 });
    expect(await kiln.left([first.vm?.port ?? 0, second.vm?.port ?? 0])).toEqual([]);
    expect(await readdir(kiln.host.scratchDir)).toEqual([]);
  });

  it.each([
    ['up-missing', '.', undefined, 'SERVICE_NOT_FOUND', 'kiln deploy'],
    ['up-folder', 'none', 'plain', 'SERVICE_NOT_FOUND', 'none'],
    ['up-manifest', '.', 'no-manifest', 'MANIFEST_MISSING', 'kiln.json'],
  ])('%s fails at validate and says why', async (id, servicePath, service, code, words) => {
    const source = service === undefined ? { sha256: 'b'.repeat(64) } : await uploaded(service);
    await kiln.workloads.create({ servicePath, source }, id);
    const { failure } = await kiln.untilStage(id, 'failed');
    expect(failure).toMatchObject({ code, stage: 'validate', message: expect.stringContaining(words) });
    expect(await readdir(kiln.host.scratchDir)).toEqual([]);
  });
});
