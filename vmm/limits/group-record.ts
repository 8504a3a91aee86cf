import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';

const FILE = 'cgroup.json';

const directory = z.string().startsWith('/').max(4096);

/**
 * Where the control group of a VM is: stored beside its instance record, before the group is made. So a worker with
 * other settings, or in another group itself, finds it again.
 */
const schema = z.strictObject({
  version: z.literal(1),
  kind: z.enum(['cgroup2', 'cgroup1']),
  /** Directory of the group by controller; on cgroup2 all the same. */
  directories: z.partialRecord(z.enum(['cpu', 'cpuacct', 'memory', 'pids', 'io']), directory),
});

export type GroupRecord = z.infer<typeof schema>;

/** Not synced: after a power cut the groups are gone as well. */
export async function writeGroupRecord(vmDirectory: string, record: GroupRecord): Promise<void> {
  const text = `${JSON.stringify(record)}\n`;
  await writeFileAtomic(join(vmDirectory, FILE), text, { encoding: 'utf8', mode: 0o600, fsync: false });
}

/** @returns undefined where the VM never had a group. @throws INTERNAL naming the file where it is damaged */
export async function readGroupRecord(vmDirectory: string): Promise<GroupRecord | undefined> {
  const path = join(vmDirectory, FILE);
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw new KilnError('INTERNAL', `${path} cannot be read`, { file: path }, error);
  }
}
