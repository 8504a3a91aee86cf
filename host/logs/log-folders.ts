/**
 * Folders of log spools: `<root>/<folder of the owner>/<epoch>`. A workload's folder is its id. A session's id holds
 * slashes and capitals, so its folder is a hash, and `owner.json` in it says whose it is.
 */
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { isKilnError } from '../../domain/failures.ts';
import { WORKLOAD_ID_PATTERN } from '../../domain/names.ts';
import { assertOwnerRef, isOwnerId, type LogRef, OWNER_KINDS, type OwnerId } from '../../domain/owner.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { readStateFile, writeStateFile } from '../../linux/state-file.ts';

const OWNER_FILE = 'owner.json';
const ownerSchema = z.strictObject({ kind: z.enum(OWNER_KINDS), id: z.string().max(200) }).refine(isOwnerId);

/** @returns the folder of an owner's spools below the folder of all logs. @throws SPEC_INVALID */
export function ownerFolder(owner: OwnerId): string {
  assertOwnerRef({ ...owner, epoch: 0 });
  if (owner.kind === 'workload') return owner.id;
  // The dot keeps it apart from every workload's folder.
  return `${owner.kind}.${createHash('sha256').update(owner.id).digest('hex').slice(0, 32)}`;
}

/** @returns the folder of one spool. @throws SPEC_INVALID */
export function spoolFolder(root: string, log: LogRef): string {
  assertOwnerRef(log);
  return join(root, ownerFolder(log), String(log.epoch));
}

/** Makes the folder of an owner, and writes the owner into it where its name does not say it. May be called again. */
export async function makeOwnerFolder(root: string, { kind, id }: OwnerId): Promise<void> {
  const directory = join(root, ownerFolder({ kind, id }));
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if (kind === 'workload') return;
  const path = join(directory, OWNER_FILE);
  if ((await readStateFile(path, ownerSchema)) === undefined) await writeStateFile(path, { kind, id });
}

/**
 * @returns every owner that has a folder below `root`; ignores folders that do not name their owner
 * @throws where a file cannot be read: its lines are not shipped yet, and must not be forgotten
 */
export async function ownersIn(root: string): Promise<readonly OwnerId[]> {
  const owners: OwnerId[] = [];
  for (const name of await directoryEntries(root)) {
    if (WORKLOAD_ID_PATTERN.test(name)) owners.push({ kind: 'workload', id: name });
    else {
      const owner = await readStateFile(join(root, name, OWNER_FILE), ownerSchema).catch(unlessDamaged);
      if (owner !== undefined && ownerFolder(owner) === name) owners.push(owner);
    }
  }
  return owners;
}

function unlessDamaged(error: unknown): undefined {
  if (!isKilnError(error)) throw error;
}

/** @returns the placements that an owner has a spool of, ascending. @throws SPEC_INVALID */
export async function epochsOf(root: string, owner: OwnerId): Promise<readonly number[]> {
  const names = await directoryEntries(join(root, ownerFolder(owner)));
  return names
    .filter((name) => /^\d{1,9}$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

/** @returns the file in an owner's folder that must be removed before the folder can. */
export function ownerFilePath(root: string, owner: OwnerId): string {
  return join(root, ownerFolder(owner), OWNER_FILE);
}
