import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { createKeyedLock } from '../concurrency/keyed-lock.ts';
import { KilnError } from '../domain/failures.ts';
import { isErrno } from '../linux/errno.ts';

/** Users that a host gives its VMMs: numbers without an entry in any user database. */
export interface UidRange {
  readonly from: number;
  readonly count: number;
}

/** Which user the VMMs of a project run as. */
export interface ProjectUids {
  /**
   * @param projectId undefined for VMs of no project: these have a user of their own
   * @returns a uid that only this project has, the same for as long as the host's state lives
   * @throws CONFIG_INVALID where the file of the assignments cannot be read, NO_CAPACITY where the range is used up
   */
  uidOf(projectId: string | undefined): Promise<number>;
}

const FILE = 'project-uids.json';
/** No project's id begins with `!`. */
const NO_PROJECT = '!none';
const assignmentsSchema = z.record(z.string().max(256), z.int().min(1).max(4_294_967_294));
const lock = createKeyedLock();

/** @param stateDir state directory of the host, where the assignments are kept */
export function createProjectUids(stateDir: string, range: UidRange): ProjectUids {
  const path = join(stateDir, FILE);
  return {
    uidOf: (projectId) =>
      lock.run(path, async () => {
        const assigned = await readAssignments(path);
        const name = projectId ?? NO_PROJECT;
        const known = assigned[name];
        if (known !== undefined) return known;
        const uid = freeUid(name, new Set(Object.values(assigned)), range);
        await mkdir(stateDir, { recursive: true, mode: 0o700 });
        await writeFileAtomic(path, `${JSON.stringify({ ...assigned, [name]: uid }, null, 2)}\n`, { mode: 0o600 });
        return uid;
      }),
  };
}

/** By a hash: if the file is lost, most projects get their numbers back; the next free one where that is taken. */
function freeUid(name: string, taken: ReadonlySet<number>, { from, count }: UidRange): number {
  const start = createHash('sha256').update(name).digest().readUInt32BE(0) % count;
  for (let step = 0; step < count; step++) {
    const uid = from + ((start + step) % count);
    if (!taken.has(uid)) return uid;
  }
  throw new KilnError('NO_CAPACITY', `All ${count} users for VMs from ${from} on are given to projects`, {
    fix: 'choose another KILN_VMM_UID_BASE, or begin with an empty KILN_HOME',
  });
}

async function readAssignments(path: string): Promise<Record<string, number>> {
  try {
    return assignmentsSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return {};
    // A guess could give one project the disks of another.
    throw new KilnError(
      'CONFIG_INVALID',
      `${path} cannot be read: stop all workloads, then remove it`,
      { path },
      error,
    );
  }
}

/**
 * Possible ranges. In the first, neither distributions, nor containers, nor subuid files assign numbers; the
 * others are for roots of containers to which only a part of the numbers is mapped.
 */
const RANGES: readonly UidRange[] = [
  { from: 1_879_100_000, count: 50_000 },
  { from: 200_000, count: 50_000 },
  { from: 30_000, count: 20_000 },
];

/**
 * @param uidMap text of `/proc/self/uid_map`
 * @param base first uid of the range, where one was chosen
 * @returns the range whose users exist here; undefined where none do, so that "root" is root only by name
 * @throws CONFIG_INVALID where the chosen range is not mapped
 */
export function usableUidRange(uidMap: string, base?: number): UidRange | undefined {
  const mapped = uidMap
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([first, , count]) => (first === undefined || count === undefined ? [] : [{ first, count }]));
  const fits = ({ from, count }: UidRange) =>
    mapped.some((line) => from >= line.first && from + count <= line.first + line.count);
  if (base === undefined) return RANGES.find(fits);
  const chosen = { from: base, count: 50_000 };
  if (fits(chosen)) return chosen;
  throw new KilnError(
    'CONFIG_INVALID',
    `KILN_VMM_UID_BASE=${base}: this machine has no users ${base} to ${base + 49_999}`,
  );
}
