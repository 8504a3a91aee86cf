import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reservationId } from '../../../domain/names.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';

/** A point in the middle of every activity, and the stage of the workload at that point. */
const POINTS: [activity: string, port: string, stage: string][] = [
  ['placeWorkload', 'hosts.list', 'pending'],
  ['reserveCapacity', 'ledger.reserve', 'pending'],
  ['validateService', 'sources.inspect', 'validate'],
  ['buildService', 'sources.pack', 'build'],
  ['provisionRootfs', 'vms.provision', 'deploy'],
  ['bootVm', 'vms.boot', 'deploy'],
  ['startService', 'services.start', 'deploy'],
  ['checkHealth', 'services.setStage', 'deploy'],
];

describe('a stop', () => {
  const gates = new PortGates();
  let kiln: Harness;
  /** Runs during all tests: the clean-up of another workload must not touch it. */
  let neighbour: WorkloadState;
  beforeAll(async () => {
    kiln = await startHarness({ hostPorts: (ports) => gates.over(ports), controlPorts: (ports) => gates.over(ports) });
    await kiln.workloads.create({ servicePath: 'plain' }, 'neighbour');
    neighbour = await kiln.untilStage('neighbour', 'running');
  });
  afterAll(() => kiln.close());

  const cases = POINTS.flatMap(([activity, port, stage]) =>
    (['before', 'after'] as const).map((moment) => [activity, moment, port, stage] as const),
  );

  it.each(cases)(
    'in the middle of %s, %s its effect, ends stopped and leaves nothing',
    async (activity, moment, port, stage) => {
      const id = `stop-${activity.toLowerCase()}-${moment}`;
      const held = gates.hold(port, moment);
      await kiln.workloads.create({ servicePath: 'plain' }, id);
      await held.reached;
      expect((await kiln.workloads.get(id)).state.stage).toBe(stage);
      const { snapshot: accepted } = await kiln.workloads.stop(id, { waitMs: 0 });
      // If the workload holds nothing yet, it may already have stopped.
      if (accepted.state.stage !== 'stopped') {
        expect(accepted.state).toMatchObject({ stage, leaving: { cause: expect.stringContaining('stop requested') } });
      }
      held.release();
      const { snapshot, settled } = await kiln.workloads.stop(id, { waitMs: 20_000 });
      expect(settled).toBe(true);
      expect(snapshot.state).toMatchObject({ stage: 'stopped', unreleased: [] });
      expect(snapshot.state.failure).toBeUndefined();
      expect((await fetch(neighbour.vm?.url ?? '')).status).toBe(200);
      const neighbours = [neighbour.vm?.vmId ?? '', reservationId('workload/neighbour', 1)];
      expect((await kiln.left()).filter((line) => !neighbours.some((name) => line.includes(name)))).toEqual([]);
    },
  );

  it('while running is idempotent, and a stop of what is over answers with its end', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'stop-twice');
    await kiln.untilStage('stop-twice', 'running');
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => kiln.workloads.stop('stop-twice', { waitMs: 20_000, reason: 'enough' })),
    );
    for (const { snapshot } of answers) expect(snapshot.state.stage).toBe('stopped');
    const again = await kiln.workloads.stop('stop-twice', { waitMs: 0 });
    expect(again.snapshot.state).toEqual(answers[0]?.snapshot.state);
  });

  it('may come without a payload, as from the Web UI', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'stop-bare');
    await kiln.untilStage('stop-bare', 'running');
    await kiln.temporal.workflow.getHandle('workload/stop-bare').signal('stop');
    expect((await kiln.untilStage('stop-bare', 'stopped')).exit?.reason).toBe('stopped');
  });

  it('left nothing on the host, and only lawful histories that replay', async () => {
    await kiln.workloads.stop('neighbour', { waitMs: 20_000 });
    expect(await kiln.left()).toEqual([]);
    expect((await kiln.judge()).length).toBeGreaterThan(cases.length);
  });
});
