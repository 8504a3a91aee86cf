/** The needs of a service, written in its folder, are known only after its placement: reservation and image follow. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { WorkloadState } from '../../../domain/workload/workload.ts';
import { SERVICES } from '../../support/workers/harness-workers.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const reservationSchema = z.looseObject({ resources: z.looseObject({ memMib: z.number() }) });
const STOP = { waitMs: 20_000 };

describe('what a manifest asks for', () => {
  let kiln: Harness;
  let projectRoot: string;
  beforeAll(async () => {
    projectRoot = await mkdtemp(join(tmpdir(), 'kiln-needs-'));
    const server = await readFile(join(SERVICES, 'plain', 'server.js'), 'utf8');
    const start = { hooks: { start: 'node server.js' } };
    await service('small', { ...start });
    await service('big', { ...start, resources: { memMib: 1_000 } });
    await service('roomy', { ...start, resources: { diskMib: 100 } });
    await service('huge', { ...start, resources: { memMib: 200_000 } });
    await service('hooks-only', { ...start, language: 'none' });
    // Each VM needs some 320 MiB beside its guest: there is room for two small services or a big one, not for a mix.
    kiln = await startHarness({
      projectRoot,
      capacity: { vcpus: 4, memMib: 2_000 },
      policies: { placement: { deadlineMs: 30_000 } },
    });

    async function service(name: string, config: unknown): Promise<void> {
      await mkdir(join(projectRoot, name));
      await writeFile(join(projectRoot, name, 'package.json'), '{ "type": "module" }');
      await writeFile(join(projectRoot, name, 'server.js'), server);
      await writeFile(join(projectRoot, name, 'kiln.json'), JSON.stringify(config));
    }
  });
  afterAll(async () => {
    await kiln.close();
    await rm(projectRoot, { recursive: true, force: true });
  });

  it('is held under the name that the placement minted', async () => {
    await kiln.workloads.create({ servicePath: 'big' }, 'grown');
    const state = await kiln.untilStage('grown', 'running', 'failed');
    expect(state).toMatchObject({ stage: 'running', vm: { epoch: 1 } });
    expect(await reservedMib()).toEqual([1_000]);
    await kiln.workloads.stop('grown', STOP);
    expect(await kiln.left()).toEqual([]);
  });

  it('counts less than what the request asks for', async () => {
    await kiln.workloads.create({ servicePath: 'big', resources: { memMib: 300 } }, 'asked');
    await kiln.untilStage('asked', 'running');
    expect(await reservedMib()).toEqual([300]);
    await kiln.workloads.stop('asked', STOP);
  });

  it('makes the workspace drive as large as the disk quota', async () => {
    await kiln.workloads.create({ servicePath: 'roomy' }, 'roomy');
    const { vm } = await kiln.untilStage('roomy', 'running');
    const directory = join(kiln.stateDir, 'vms', vm?.vmId ?? '');
    const disks = (await readdir(directory)).filter((name) => name.includes('.workspace'));
    expect(disks).toHaveLength(1);
    expect((await stat(join(directory, disks[0] ?? ''))).size).toBe(100 * 2 ** 20);
    await kiln.workloads.stop('roomy', STOP);
    expect(await kiln.left()).toEqual([]);
  });

  it('waits in the open where the host has no room, holding nothing, and goes on when it has', async () => {
    await kiln.workloads.create({ servicePath: 'small' }, 'in-the-way');
    await kiln.untilStage('in-the-way', 'running');
    await kiln.workloads.create({ servicePath: 'big' }, 'waits');
    let state: WorkloadState;
    do {
      await delay(50);
      state = (await kiln.workloads.get('waits')).state;
      // It may wait for its placement until its host reports that the builder of the other is gone.
    } while (!(state.stage === 'validate' && state.waiting !== undefined) && state.stage !== 'failed');
    expect(state).toMatchObject({ stage: 'validate', waiting: { reason: expect.stringContaining('1000 MiB') } });
    expect(await reservedMib()).toEqual([512]);
    await kiln.workloads.stop('in-the-way', STOP);
    const running = await kiln.untilStage('waits', 'running', 'failed');
    expect(running).toMatchObject({ stage: 'running', vm: { epoch: 2 } });
    expect(await reservedMib()).toEqual([1_000]);
    await kiln.workloads.stop('waits', STOP);
    expect(await kiln.left()).toEqual([]);
  });

  it('is impossible at once where no host could ever give it', async () => {
    await kiln.workloads.create({ servicePath: 'huge' }, 'impossible');
    const { failure } = await kiln.untilStage('impossible', 'failed');
    expect(failure).toMatchObject({
      code: 'NO_CAPACITY',
      stage: 'validate',
      message: expect.stringContaining('200000 MiB'),
    });
    expect(await kiln.left()).toEqual([]);
  });

  it('chooses the image, unless the request names one', async () => {
    await kiln.workloads.create({ servicePath: 'hooks-only' }, 'base');
    expect((await kiln.untilStage('base', 'running')).image?.name).toBe('base');
    await kiln.workloads.create({ servicePath: 'hooks-only', image: 'own' }, 'own');
    expect((await kiln.untilStage('own', 'running')).image?.name).toBe('own');
    for (const id of ['base', 'own']) await kiln.workloads.stop(id, STOP);
    expect(await kiln.left()).toEqual([]);
  });

  it('left only lawful histories that replay', async () => {
    expect((await kiln.judge()).length).toBeGreaterThan(5);
  });

  async function reservedMib(): Promise<number[]> {
    const directory = join(kiln.stateDir, 'reservations');
    const files = (await readdir(directory)).filter((name) => name.endsWith('.json'));
    const texts = await Promise.all(files.map((name) => readFile(join(directory, name), 'utf8')));
    return texts.map((text) => reservationSchema.parse(JSON.parse(text)).resources.memMib).sort((a, b) => a - b);
  }
});
