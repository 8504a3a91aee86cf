import { mock } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import {
  keyOfKind,
  recordedBursts,
  type SimulationOptions,
  type SimulationReport,
  simulate,
} from '../../test/support/host/pool-simulation.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';

const WARM = [{ image: 'node', vcpus: 1, memMib: keyOfKind('a').memMib, projectId: 'project-a' }];

/**
 * The recorded load of 500 requests, played through the real pool on a turned clock, over VMs whose boots and hand-overs take
 * assumed times (`SIM_COSTS`). The rival has no pool: it clones, or boots, when it is asked.
 */
export async function measurePool({ say }: GroupOptions): Promise<readonly Measurement[]> {
  const load = recordedBursts();
  const play = (more: Partial<SimulationOptions>) =>
    played(() => simulate({ load, limits: {}, warm: WARM, stepMs: 10, advance, ...more }));
  const cloned = await play({ seeded: true });
  tell(say, 'with templates', cloned);
  const cold = await play({ withTemplates: false });
  tell(say, 'without templates', cold);
  const off = { limits: { pool_size: 0 } };
  const rival = async (way: string, more: Partial<SimulationOptions>) => ({
    words: `the same load without a pool, each VM ${way} when it is asked for`,
    samples: (await play({ ...off, ...more })).latenciesMs,
  });
  return [
    { name: 'pool-cloned', unit: 'ms', kiln: cloned.latenciesMs, rival: await rival('cloned', { seeded: true }) },
    { name: 'pool-cold', unit: 'ms', kiln: cold.latenciesMs, rival: await rival('booted', { withTemplates: false }) },
  ];
}

async function played(play: () => Promise<SimulationReport>): Promise<SimulationReport> {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.parse('2026-01-01T00:00:00Z') });
  try {
    return await play();
  } finally {
    mock.timers.reset();
  }
}

/** Whatever falls due may make something new due at once. */
async function advance(ms: number): Promise<void> {
  await turn();
  mock.timers.tick(ms);
  await turn();
}

function tell(say: (line: string) => void, how: string, report: SimulationReport): void {
  const { requests, hits, waits, misses, created, destroyed, templatesMade, mostReady, recycled } = report;
  const causes = Object.entries(recycled).map(([cause, count]) => `${cause} ${count}`);
  const share = Math.round(((hits + waits) / requests) * 1000) / 10;
  say(
    `pool ${how}: ${requests} requests, hits ${hits}, waits ${waits}, misses ${misses} (${share} % were given a pooled VM)`,
  );
  say(`  made ${created}, templates ${templatesMade}, most ready at a time ${mostReady}, destroyed ${destroyed}`);
  say(`  recycled: ${causes.join(', ') || 'none'}`);
}
