import { chmod, mkdir, readdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LRUCache } from 'lru-cache';
import writeFileAtomic from 'write-file-atomic';
import { createKeyedLock } from '../concurrency/keyed-lock.ts';
import { type InstanceRecord, instanceRecordSchema, VM_ID_PATTERN } from '../contracts/host/instance-record.ts';
import { KilnError } from '../domain/failures.ts';
import type { VmSpec, VmStart } from '../domain/vm.ts';
import { directoryEntries, mayExist } from '../linux/directory-entries.ts';
import { isErrno } from '../linux/errno.ts';
import { syncDirectory } from '../linux/sync-directory.ts';

/** Instance records of one host. A VM exists exactly as long as its record does. */
export interface InstanceStore {
  /** Where a VM's record, disks and logs lie. */
  directory(vmId: string): string;
  /**
   * Writes a record, and makes its directory, if there is none yet.
   * @returns the record that counts: an existing one stays
   */
  create(record: InstanceRecord): Promise<InstanceRecord>;
  /** @returns undefined where there is none. @throws INTERNAL naming the file where it is damaged */
  read(vmId: string): Promise<InstanceRecord | undefined>;
  /**
   * Reads, changes and writes under the VM's lock. `change` may return the record unchanged: then nothing is written.
   * @returns the present record; undefined where there is none
   */
  update(vmId: string, change: (record: InstanceRecord) => InstanceRecord): Promise<InstanceRecord | undefined>;
  /**
   * Gives a VM the name that is in the changed record: writes the record first, then renames the directory. A repeated
   * call finishes what was begun. Sockets stay where the record says.
   * @returns the record with the new name, an existing one of another VM included; undefined where `vmId` is gone
   */
  rename(
    vmId: string,
    newId: string,
    change: (record: InstanceRecord) => InstanceRecord,
  ): Promise<InstanceRecord | undefined>;
  /** Finishes the renames that a dead process had begun. @returns the new names. Call it before anything else. */
  finishRenames(): Promise<string[]>;
  /** Ids of all records, the damaged ones included, sorted. */
  list(): Promise<string[]>;
  /** Removes all of the VM's directory, the record last. Unknown id: removes what lies there without a record. */
  remove(vmId: string): Promise<void>;
}

const RECORD_FILE = 'instance.json';
const MAX_RECORD_BYTES = 256 * 1024;

/** Records are read far more often than they change. Every change makes a new file. */
const readLately = new LRUCache<string, { readonly stamp: string; readonly record: InstanceRecord }>({ max: 4_096 });
/** The times of a file tell its changes apart only after its clock has moved on, ms. */
const SETTLED_MS = 1_000;

/** One lock for all stores of this process: two stores on one directory exclude each other too. */
const recordLock = createKeyedLock();

/** The part of a VM's specification that its record repeats: all that defines the machine. */
export function recordedMachine(
  spec: Pick<VmSpec, 'imageDigest' | 'vcpus' | 'memMib' | 'kernelPath' | 'initrdPath' | 'drives'>,
): Pick<InstanceRecord, 'imageDigest' | 'vcpus' | 'memMib' | 'kernelPath' | 'initrdPath' | 'drives'> {
  const { imageDigest, vcpus, memMib, kernelPath, initrdPath } = spec;
  return { imageDigest, vcpus, memMib, kernelPath, initrdPath, drives: spec.drives.map((drive) => ({ ...drive })) };
}

/**
 * @returns how a VM is started. Older records do not say it: there a pooled VM is recognized by the folder of its
 * sockets, which still has the VM's first name.
 */
export function recordedStart({ vmId, start, sockets, template }: InstanceRecord): VmStart {
  if (start !== undefined) return start;
  if (basename(dirname(sockets.agent)) !== vmId) return 'pool';
  return template === undefined ? 'cold' : 'template';
}

/** Called at each step of a rename that is on disk; a test stops the work there. */
export type RenameStep = 'record' | 'directory';

/** @param stateDir absolute state directory of the host; records lie below `vms/` in it */
export function createInstanceStore(stateDir: string, atStep: (step: RenameStep) => void = () => {}): InstanceStore {
  const vmsDir = join(stateDir, 'vms');
  const directory = (vmId: string) => join(vmsDir, checkVmId(vmId));
  const file = (vmId: string) => join(directory(vmId), RECORD_FILE);
  const locked = <T>(vmId: string, work: () => Promise<T>) => recordLock.run(directory(vmId), work);

  const follow = async (vmId: string, newId: string): Promise<void> => {
    // Without a record it holds only what an interrupted call left.
    await removeDirectory(directory(newId));
    await rename(directory(vmId), directory(newId));
    await syncDirectory(vmsDir);
    atStep('directory');
  };

  return {
    directory,
    create: (record) =>
      locked(record.vmId, async () => {
        const found = await readRecord(record.vmId, file(record.vmId));
        if (found !== undefined) return found;
        await mkdir(directory(record.vmId), { recursive: true, mode: 0o700 });
        await writeRecord(file(record.vmId), record);
        await syncDirectory(vmsDir);
        return record;
      }),
    read: (vmId) => readRecord(vmId, file(vmId)),
    update: (vmId, change) =>
      locked(vmId, async () => {
        const before = await readRecord(vmId, file(vmId));
        if (before === undefined) return undefined;
        const after = change(before);
        if (after !== before) await writeRecord(file(vmId), after);
        return after;
      }),
    rename: (vmId, newId, change) =>
      locked(vmId, () =>
        locked(newId, async () => {
          const standing = await readRecord(newId, file(newId));
          if (standing !== undefined) return standing;
          const found = await readNamed(file(vmId));
          if (found === undefined || (found.vmId !== vmId && found.vmId !== newId)) return undefined;
          const record = found.vmId === newId ? found : renamed(change(found), newId, directory);
          if (record !== found) await writeRecord(file(vmId), record);
          atStep('record');
          await follow(vmId, newId);
          return record;
        }),
      ),
    async finishRenames() {
      const finished: string[] = [];
      for (const name of (await directoryEntries(vmsDir)).filter((entry) => VM_ID_PATTERN.test(entry))) {
        await locked(name, async () => {
          const record = await readNamed(file(name)).catch(() => undefined);
          if (record === undefined || record.vmId === name || (await mayExist(file(record.vmId)))) return;
          await follow(name, record.vmId);
          finished.push(record.vmId);
        });
      }
      return finished;
    },
    async list() {
      const ids = (await directoryEntries(vmsDir)).filter((name) => VM_ID_PATTERN.test(name)).sort();
      const present = await Promise.all(ids.map((vmId) => mayExist(file(vmId))));
      return ids.filter((_, index) => present[index]);
    },
    remove: (vmId) => locked(vmId, () => removeDirectory(directory(vmId))),
  };
}

/** @returns the id. @throws SPEC_INVALID where it is not valid: ids become path names and socket names */
export function checkVmId(vmId: string): string {
  if (VM_ID_PATTERN.test(vmId)) return vmId;
  throw new KilnError('SPEC_INVALID', `"${vmId.slice(0, 64)}" is no VM id: 1-24 of [a-z0-9-], no leading "-"`);
}

async function readRecord(vmId: string, path: string): Promise<InstanceRecord | undefined> {
  const record = await readNamed(path);
  if (record !== undefined && record.vmId !== vmId) throw damaged(path, `it names ${record.vmId}`);
  return record;
}

/** Reads a record whatever its name is: one that is being renamed already has the new name. */
async function readNamed(path: string): Promise<InstanceRecord | undefined> {
  try {
    const state = await stat(path, { bigint: true });
    const { size } = state;
    if (size > MAX_RECORD_BYTES) throw damaged(path, `${size} bytes, at most ${MAX_RECORD_BYTES} expected`);
    const stamp = `${state.ino}:${size}:${state.mtimeNs}:${state.ctimeNs}`;
    const known = readLately.get(path);
    if (known?.stamp === stamp) return known.record;
    const begun = Date.now();
    const record = parseRecord(path, await readFile(path, 'utf8'));
    if (begun - Number(state.ctimeMs) > SETTLED_MS) readLately.set(path, { stamp, record });
    return record;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

function parseRecord(path: string, text: string): InstanceRecord {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw damaged(path, error instanceof Error ? error.message : 'no JSON');
  }
  const parsed = instanceRecordSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw damaged(path, `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}`);
  }
  return parsed.data;
}

/** Paths of disks change with their directory; those that lie elsewhere (an image, a template) stay. */
function renamed(record: InstanceRecord, newId: string, directory: (vmId: string) => string): InstanceRecord {
  const before = `${directory(record.vmId)}/`;
  const moved = (path: string) => (path.startsWith(before) ? join(directory(newId), path.slice(before.length)) : path);
  const drives = record.drives.map((drive) => ({ ...drive, path: moved(drive.path) }));
  return { ...record, vmId: newId, drives };
}

function damaged(path: string, why: string): KilnError {
  return new KilnError(
    'INTERNAL',
    `The instance record ${path} cannot be read (${why}). The VM is left alone until the record is repaired or destroyed.`,
    { file: path },
  );
}

async function writeRecord(path: string, record: InstanceRecord): Promise<void> {
  const text = `${JSON.stringify(instanceRecordSchema.parse(record), null, 2)}\n`;
  await writeFileAtomic(path, text, { encoding: 'utf8', mode: 0o600, fsync: true });
  await syncDirectory(dirname(path));
}

async function removeDirectory(path: string): Promise<void> {
  for (const name of await directoryEntries(path)) {
    if (name !== RECORD_FILE) await removeTree(join(path, name));
  }
  await rm(join(path, RECORD_FILE), { force: true });
  try {
    await rmdir(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

/** Folders that even their owner may not read (the work folder of an overlay) are opened first. */
async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (!isErrno(error, 'EACCES')) throw error;
    await openFolders(path);
    await rm(path, { recursive: true, force: true });
  }
}

async function openFolders(path: string): Promise<void> {
  await chmod(path, 0o700);
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await openFolders(join(path, entry.name));
  }
}
