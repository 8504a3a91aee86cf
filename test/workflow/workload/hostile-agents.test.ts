/** Guests with hostile agents, in a whole Kiln, beside a guest with a good one. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorkloadClient, type WorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import { vmId, workloadWorkflowId } from '../../../domain/names.ts';
import { createWorkloadDocuments } from '../../../store/workloads/workload-documents.ts';
import { FAST, type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const AGENT = fileURLToPath(new URL('../../fixtures/hostile-agent.ts', import.meta.url));
const WAYS = ['no-frames', 'frames-of-nobody', 'wrong-answer', 'flood', 'silence'];
const PLACES = [1, 2].flatMap((epoch) => [1, 2, 3].map((boot) => [epoch, boot] as const));
const wayOf = new Map(
  WAYS.flatMap((how) =>
    PLACES.map(([epoch, boot]) => [vmId(workloadWorkflowId(`hostile-${how}`), epoch, boot), how] as const),
  ),
);

let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness({
    policies: { deploy: { bootMs: 3_000 } },
    faultOf: (id) => {
      const how = wayOf.get(id);
      return how === undefined ? undefined : { kind: 'instead', argv: [process.execPath, AGENT, '--how', how] };
    },
  });
});
afterAll(() => kiln.close());

/** All are given up soon, except the one that needs the time to give its wrong answer. */
function clientFor(how: string): WorkloadClient {
  if (how !== 'wrong-answer') return kiln.workloads;
  return createWorkloadClient({
    client: kiln.temporal,
    archive: createWorkloadDocuments(kiln.store),
    policies: FAST,
  });
}

describe('hostile agents', () => {
  it('each ends as failed with a code, and the neighbour runs through it', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'neighbour');
    const { vm } = await kiln.untilStage('neighbour', 'running');
    for (const how of WAYS) await clientFor(how).create({ servicePath: 'plain' }, `hostile-${how}`);
    const answers: boolean[] = [];
    const ends = Promise.all(WAYS.map((how) => kiln.untilStage(`hostile-${how}`, 'failed')));
    let over = false;
    void ends
      .finally(() => {
        over = true;
      })
      .catch(() => undefined);
    while (!over) answers.push((await fetch(`${vm?.url}/`)).ok);
    const codes = (await ends).map((state, n) => [WAYS[n], state.failure?.stage, state.failure?.code]);
    for (const [, stage, code] of codes) {
      expect(stage).toBe('deploy');
      expect(['AGENT_PROTOCOL', 'AGENT_TIMEOUT', 'BOOT_TIMEOUT']).toContain(code);
    }
    expect(codes).toContainEqual(['wrong-answer', 'deploy', 'AGENT_PROTOCOL']);
    expect(answers.every(Boolean)).toBe(true);
    expect((await kiln.workloads.get('neighbour')).state.stage).toBe('running');
    await kiln.workloads.stop('neighbour', { by: 'api', waitMs: 0 });
    await kiln.untilStage('neighbour', 'stopped');
    expect(await kiln.left()).toEqual([]);
    expect(await kiln.judge()).toHaveLength(WAYS.length + 1);
  });
});
