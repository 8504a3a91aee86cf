/** Removes what is left in the spool of placements that are over. */
import { rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { spooledPlacementSchema } from '../../contracts/store/save-documents.ts';
import { messageOf } from '../../domain/failures.ts';
import { sessionWorkflowId } from '../../domain/names.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { isErrno } from '../../linux/errno.ts';
import { readStateFile } from '../../linux/state-file.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostLogger } from '../host-logger.ts';

export interface SpoolPruningOptions {
  readonly stateDir: string;
  readonly records: Pick<InstanceStore, 'list' | 'read'>;
  /** What nobody has changed for so long goes, where its placement has no VM here any more, ms. */
  readonly keepMs: number;
  /** ms since 1970. */
  readonly clock: () => number;
  readonly logger: HostLogger;
}

/** Rounds in the time that a spool is kept. */
const ROUNDS = 24;

export interface SpoolPruning {
  prune(): Promise<void>;
  start(): void;
  stop(): Promise<void>;
}

export function createSpoolPruning(options: SpoolPruningOptions): SpoolPruning {
  const { keepMs, logger } = options;
  let timer: NodeJS.Timeout | undefined;
  let round: Promise<void> | undefined;
  const prune = async () => {
    const owners = await livingOwners(options);
    const root = join(options.stateDir, 'saves');
    for (const session of await directoryEntries(root)) {
      for (const epoch of await directoryEntries(join(root, session))) {
        await pruneOne(options, join(root, session, epoch), owners);
      }
      // Others may be in it.
      await rmdir(join(root, session)).catch(() => undefined);
    }
  };
  return {
    prune,
    start() {
      timer ??= setInterval(() => {
        round ??= prune()
          .catch((error: unknown) => logger.warn({ reason: messageOf(error) }, 'old saves are removed later'))
          .finally(() => {
            round = undefined;
          });
      }, keepMs / ROUNDS);
    },
    async stop() {
      clearInterval(timer);
      await round;
    },
  };
}

/** @returns the placements that have VMs on this host */
async function livingOwners({ records }: SpoolPruningOptions): Promise<Set<string>> {
  const owners = new Set<string>();
  for (const vmId of await records.list()) {
    // One that is damaged proves nothing: then nothing is removed.
    const record = await records.read(vmId);
    if (record !== undefined) owners.add(placementOf(record.owner.workflowId, record.owner.epoch));
  }
  return owners;
}

const placementOf = (workflowId: string, epoch: number) => `${workflowId} ${epoch}`;

async function pruneOne(
  { keepMs, clock, logger }: SpoolPruningOptions,
  directory: string,
  owners: ReadonlySet<string>,
): Promise<void> {
  const placement = await readStateFile(join(directory, 'placement.json'), spooledPlacementSchema).catch(
    () => undefined,
  );
  if (placement !== undefined && owners.has(placementOf(sessionWorkflowId(placement.session), placement.epoch))) return;
  if (clock() - (await lastChange(directory)) < keepMs) return;
  const unsent = await unsentSaves(directory);
  if (unsent.length > 0) logger.warn({ ...placement, unsent }, 'saves of a placement that is over were never stored');
  await rm(directory, { recursive: true, force: true });
}

async function lastChange(directory: string): Promise<number> {
  const paths = [directory, ...(await directoryEntries(directory)).map((name) => join(directory, name))];
  const times = await Promise.all(paths.map((path) => stat(path).then(({ mtimeMs }) => mtimeMs, zeroIfMissing)));
  return Math.max(...times);
}

async function unsentSaves(directory: string): Promise<string[]> {
  const names: string[] = [];
  for (const name of await directoryEntries(directory)) {
    const files: string[] = await directoryEntries(join(directory, name)).catch(() => []);
    if (files.includes('save.json') && !files.includes('uploaded.json')) names.push(name);
  }
  return names;
}

function zeroIfMissing(error: unknown): number {
  if (isErrno(error, 'ENOENT')) return 0;
  throw error;
}
