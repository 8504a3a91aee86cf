import {
  chmod,
  chown,
  type FileHandle,
  lchown,
  lstat,
  mkdir,
  open,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { InstanceRecord } from '../contracts/host/instance-record.ts';
import { KilnError } from '../domain/failures.ts';
import type { VmPaths } from './vm-paths.ts';
import { type SpawnedVm, spawnDetached, type VmCommand } from './vm-process.ts';

/**
 * What a VMM that runs as a user of its project must be given. It cannot open files by name: they lie in folders of
 * root. It gets them as descriptors and opens them again by `/proc/self/fd`, where the kernel checks only the rights
 * on the file itself. It owns its own files; images are readable by all and writable by nobody.
 */
export interface OpenedFiles {
  /** From descriptor 3 on. */
  readonly descriptors: readonly number[];
  close(): Promise<void>;
}

const FIRST_DESCRIPTOR = 3;

/** Files of a VM, in the order of their descriptors. */
export interface VmFiles {
  /** Read and written by this VM only. */
  readonly own: readonly string[];
  /** Shared by many VMs; read only. */
  readonly shared: readonly string[];
  /** Of a template; the VM's user owns them already. Nothing about them may change: their stat fingerprints count. */
  readonly frozen: readonly string[];
}

const allFiles = ({ own, shared, frozen }: VmFiles): readonly string[] => [...own, ...shared, ...frozen];

/** @returns the descriptor after those of a VM's own files. */
export function nextDescriptor(files: VmFiles | undefined): number {
  return FIRST_DESCRIPTOR + (files === undefined ? 0 : allFiles(files).length);
}

/** @returns how a file is named on the command line of a VMM with a user of its own. */
export function descriptorPath(files: VmFiles, path: string): string {
  const index = allFiles(files).indexOf(path);
  if (index < 0) throw new KilnError('INTERNAL', `${path} is not among the files of the VM`);
  return `/proc/self/fd/${FIRST_DESCRIPTOR + index}`;
}

/** Gives a VM's own files to its user, makes the shared ones readable, and opens all. */
async function openFor(uid: number, files: VmFiles): Promise<OpenedFiles> {
  for (const path of files.shared) {
    const { mode } = await stat(path);
    // Images hold no secrets, and their builder may have had a narrow umask.
    if ((mode & 0o004) === 0) await chmod(path, (mode & 0o777) | 0o444);
  }
  const handles: Awaited<ReturnType<typeof open>>[] = [];
  const close = async (): Promise<void> => {
    for (const handle of handles) await handle.close();
  };
  try {
    for (const path of files.own) {
      await chmod(path, 0o600);
      await chown(path, uid, uid);
    }
    for (const path of allFiles(files)) handles.push(await open(path, 'r'));
    return { descriptors: handles.map(({ fd }) => fd), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Makes an empty file where there is none. */
export async function touch(path: string): Promise<void> {
  await writeFile(path, '', { flag: 'a', mode: 0o600 });
}

/**
 * Makes the folder of a VM's sockets. Others may pass through its parent, which holds only such folders.
 * @throws CONFIG_INVALID where somebody else owns the place and could redirect it
 */
export async function makeRuntimeDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const path of [dirname(directory), directory]) {
    const found = await lstat(path);
    if (found.isDirectory() && (path === directory || found.uid === process.getuid?.())) continue;
    throw new KilnError(
      'CONFIG_INVALID',
      `${path} belongs to somebody else: remove it, or set KILN_RUNTIME_DIR to a folder of your own`,
      { path, uid: found.uid },
    );
  }
}

/** Lets the VM's user make its sockets; taken back once they exist (`takeBackRuntimeDirectory`). */
async function lendRuntimeDirectory(uid: number, directory: string): Promise<void> {
  await chmod(dirname(directory), 0o711);
  await mustReach(dirname(directory));
  await chmod(directory, 0o700);
  await lchown(directory, uid, uid);
}

/** A user other than root can pass through a folder only where it is open to all. */
async function mustReach(directory: string): Promise<void> {
  for (let path = directory; path !== '/'; path = dirname(path)) {
    if (((await stat(path)).mode & 0o001) !== 0) continue;
    throw new KilnError('CONFIG_INVALID', `The users of the VMs cannot pass through ${path} to their sockets`, {
      fix: `chmod o+x ${path}, or leave KILN_RUNTIME_DIR unset`,
    });
  }
}

/**
 * Once its sockets exist, a VMM has nothing more to make: from then on it cannot replace one of them, to which this
 * worker, being root, would connect. Called before any code of a user runs in the guest.
 */
export async function takeBackRuntimeDirectory(record: InstanceRecord): Promise<void> {
  if (record.uid !== undefined) await lchown(dirname(record.sockets.agent), 0, 0);
}

/** QEMU itself appends `.in` and `.out` to the name of a pipe, so these two names link to descriptors. */
export async function linkPipe(runtimeDirectory: string, ends: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, target] of Object.entries(ends)) {
    await rm(join(runtimeDirectory, name), { force: true });
    await symlink(target, join(runtimeDirectory, name));
  }
}

/** Gives a VM's user all files that its VMM opens; does nothing where the VM has no user of its own. */
export async function lendFiles(
  uid: number | undefined,
  files: VmFiles | undefined,
  paths: VmPaths,
): Promise<OpenedFiles> {
  if (uid === undefined || files === undefined) return { descriptors: [], close: async () => undefined };
  await lendRuntimeDirectory(uid, paths.runtimeDirectory);
  return openFor(uid, files);
}

/** How a VMM is started, and the files given to one with a user of its own. */
export interface VmLaunch extends VmCommand {
  readonly files?: VmFiles;
  /** The state of the guest it restores: handed over opened, after those files, whatever user the VMM runs as. */
  readonly statePath?: string;
}

/** Starts the process of a VM, as its user where it has one. */
export async function spawnAs(uid: number | undefined, command: VmLaunch, paths: VmPaths): Promise<SpawnedVm> {
  const opened = await lendFiles(uid, command.files, paths);
  let state: FileHandle | undefined;
  try {
    if (command.statePath !== undefined) state = await openState(command.statePath);
    return await spawnDetached(command, paths.vmmLog, [...opened.descriptors, ...(state ? [state.fd] : [])]);
  } finally {
    await state?.close();
    await opened.close();
  }
}

async function openState(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    throw new KilnError('TEMPLATE_CORRUPT', `The state of the template cannot be opened: ${path}`, { path }, error);
  }
}
