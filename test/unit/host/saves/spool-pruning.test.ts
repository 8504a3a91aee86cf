import { readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { sessionWorkflowId } from '../../../../domain/names.ts';
import { createSpoolPruning } from '../../../../host/saves/spool-pruning.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import { createSavesHost, mark, NEVER, placed, type SavesHost, SESSION } from '../../../support/saves/saves-fixture.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const DAY = 24 * 3_600_000;

let store: MemoryStore;
let host: SavesHost;
beforeEach(async () => {
  store = createMemoryStore();
  host = await createSavesHost(store);
  for (const epoch of [1, 2]) {
    const of = placed(epoch);
    host.workspaces.of(of.vmId).write('f', `of ${epoch}`);
    await host.saves.restore(of, NEVER);
    await host.saves.snapshot(of, mark(epoch), NEVER);
    if (epoch === 1) await host.saves.upload(of, NEVER);
  }
});
afterEach(() => host.remove());

/** @returns the placements that the spool still has, after a round at that time */
async function left(laterMs: number, epochs: readonly number[]): Promise<string[]> {
  const warnings: unknown[] = [];
  const record = (epoch: number) => ({ owner: { workflowId: sessionWorkflowId(SESSION), epoch } });
  const pruning = createSpoolPruning({
    stateDir: host.stateDir,
    records: {
      list: async () => epochs.map(String),
      // Only the owner of a record is looked at.
      read: async (vmId) => record(Number(vmId)) as never,
    },
    keepMs: DAY,
    clock: () => Date.now() + laterMs,
    logger: { ...silentLogger, warn: (what: unknown) => void warnings.push(what) },
  });
  await pruning.prune();
  const root = join(host.stateDir, 'saves');
  const sessions = await readdir(root);
  const found = await Promise.all(sessions.map((session) => readdir(join(root, session))));
  return found.flat().sort();
}

it('what a placement has left stays for a while, and for as long as it has a VM', async () => {
  expect(await left(DAY / 2, [])).toEqual(['1', '2']);
  expect(await left(2 * DAY, [1, 2])).toEqual(['1', '2']);
  expect(await left(2 * DAY, [2])).toEqual(['2']);
  expect(await left(2 * DAY, [])).toEqual([]);
});

it('a change of any of its saves counts', async () => {
  const [session = ''] = await readdir(join(host.stateDir, 'saves'));
  const old = new Date(Date.now() - 3 * DAY);
  const folder = join(host.stateDir, 'saves', session, '1');
  for (const name of await readdir(folder)) await utimes(join(folder, name), old, old);
  await utimes(folder, old, old);
  expect(await left(0, [])).toEqual(['2']);
});
