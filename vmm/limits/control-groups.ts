import { constants } from 'node:fs';
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import { VM_ID_PATTERN } from '../../contracts/host/instance-record.ts';
import { KilnError } from '../../domain/failures.ts';
import { subdirectories } from '../../linux/directory-entries.ts';
import { isErrno } from '../../linux/errno.ts';
import { sendSignal } from '../../linux/process-identity.ts';
import type { GroupCaps } from './group-caps.ts';
import { CGROUP1, CGROUP2, type Controller, type GroupLayout, type GroupReading } from './group-layout.ts';
import type { GroupRecord } from './group-record.ts';

/** Where the groups of one host are made: `<root>/<host name>/<vmId>`, in the root of each controller. */
export interface GroupTree {
  readonly layout: GroupLayout;
  readonly roots: Partial<Readonly<Record<Controller, string>>>;
  /** Names this host's folder of groups: several stacks of one machine share a root. */
  readonly hostName: string;
}

const PROCS = 'cgroup.procs';
const SUBTREE = 'cgroup.subtree_control';

/** The host's folder is made and removed with its VMs: it is never removed while a group is being made in it. */
const folderLock = createKeyedLock();

/** @returns the group of a VM, whether it exists or not */
export function groupOf(tree: GroupTree, vmId: string): GroupRecord {
  const directories: GroupRecord['directories'] = {};
  for (const [controller, root] of controllersOf(tree)) directories[controller] = join(root, tree.hostName, vmId);
  return { version: 1, kind: tree.layout.kind, directories };
}

/** @returns each directory of a group once */
export function directoriesOf({ directories }: GroupRecord): string[] {
  return [...new Set(Object.values(directories))];
}

/** @returns the files by which a process joins a group */
export function procsFiles(group: GroupRecord): string[] {
  return directoriesOf(group).map((directory) => join(directory, PROCS));
}

/** Finds or makes a group and sets its caps. @throws the system's error where it cannot */
export async function makeGroup(tree: GroupTree, vmId: string, caps: GroupCaps): Promise<void> {
  const group = groupOf(tree, vmId);
  await folderLock.run(tree.hostName, async () => {
    for (const root of new Set(Object.values(tree.roots))) {
      await mkdir(join(root, tree.hostName), { recursive: true });
      if (tree.layout.kind === 'cgroup2') await delegate(tree, root);
    }
    for (const directory of directoriesOf(group)) await mkdir(directory, { recursive: true });
  });
  for (const { controller, file, value, optional } of tree.layout.knobs(caps)) {
    const directory = group.directories[controller];
    if (directory === undefined) continue;
    await writeFile(join(directory, file), value).catch((error: unknown) => {
      if (optional !== true) throw error;
    });
  }
  await folderLock.run(tree.hostName, () => weighFolder(tree.layout, group));
}

/**
 * The host's folder gets the weights of all its VMs together: with the weight of one group, all of them would have to
 * share what any single process beside it gets.
 */
async function weighFolder({ weight }: GroupLayout, { directories }: GroupRecord): Promise<void> {
  if (directories.cpu === undefined) return;
  const folder = dirname(directories.cpu);
  const weights = await Promise.all(
    (await subdirectories(folder)).map(async (name) => Number((await textOf(join(folder, name, weight.file))) ?? 0)),
  );
  const sum = weights.reduce((all, one) => all + one, 0);
  if (sum > 0) await writeFile(join(folder, weight.file), String(Math.min(weight.max, sum)));
}

/** On cgroup2 a controller works in a group only where the groups above enable it. */
async function delegate(tree: GroupTree, root: string): Promise<void> {
  const words = controllersOf(tree).map(([controller]) => `+${controller}`);
  for (const directory of [root, join(root, tree.hostName)]) await writeFile(join(directory, SUBTREE), words.join(' '));
}

function controllersOf({ roots }: GroupTree): [Controller, string][] {
  const order: readonly Controller[] = ['cpu', 'cpuacct', 'memory', 'pids', 'io'];
  return order.flatMap((name) => {
    const root = roots[name];
    return root === undefined ? [] : [[name, root] as [Controller, string]];
  });
}

/** @returns the kernel's figures for a group; empty where it is gone */
export function readGroup(layout: GroupLayout, { directories }: GroupRecord): Promise<GroupReading> {
  return layout.read(async (controller, file) => {
    const directory = directories[controller];
    return directory === undefined ? undefined : await textOf(join(directory, file));
  });
}

/**
 * Kills what is left in a group and removes it, and the host's folder with the last one.
 * @throws INTERNAL where something in it survives `timeoutMs`
 */
export async function removeGroup(
  group: GroupRecord,
  options: { pollMs: number; timeoutMs: number; remove?: (directory: string) => Promise<void> },
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  for (const directory of directoriesOf(group)) {
    while (!(await removed(directory, options.remove ?? rmdir))) {
      if (performance.now() >= deadline) {
        throw new KilnError('INTERNAL', `The control group ${directory} is not empty after its VM was killed`, {
          directory,
          pids: await pidsIn(directory),
          fix: 'look at the processes in its cgroup.procs: one in state D waits for a disk',
        });
      }
      await endAll(directory);
      await sleep(options.pollMs);
    }
    const folder = dirname(directory);
    // Other groups may be in it, or one is being made at this moment: then it stays.
    await folderLock.run(basename(folder), () => (options.remove ?? rmdir)(folder)).catch(() => undefined);
  }
  const layout = group.kind === 'cgroup2' ? CGROUP2 : CGROUP1;
  const name = basename(dirname(directoriesOf(group)[0] ?? '/'));
  // The folder may be gone with its last VM, or be removed at this moment.
  await folderLock.run(name, () => weighFolder(layout, group)).catch(() => undefined);
}

/**
 * Killing one by one never ends processes that fork faster. So new ones are forbidden, where their number is
 * limited, and the kernel ends all at once, where it can (cgroup2 from Linux 5.14 on).
 */
async function endAll(directory: string): Promise<void> {
  for (const [file, word] of [
    ['pids.max', '0'],
    ['cgroup.kill', '1'],
  ] as const) {
    // Written only if it exists: the kernel decides which of these files there are.
    await writeFile(join(directory, file), word, { flag: constants.O_WRONLY }).catch(() => undefined);
  }
  for (const pid of await pidsIn(directory)) await killMember(pid, directory);
}

/** With the groups in it: the agent of a fake VM makes some in its VM's group. */
async function removed(directory: string, remove: (directory: string) => Promise<void>): Promise<boolean> {
  try {
    await remove(directory);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return true;
    if (!isErrno(error, 'EBUSY', 'ENOTEMPTY')) throw error;
  }
  const below = await subdirectories(directory);
  const emptied = await Promise.all(below.map((name) => removed(join(directory, name), remove)));
  return below.length > 0 && emptied.every(Boolean) && removed(directory, remove);
}

/** Kills only what the kernel lists in the group at this moment: the pid may belong to another process by now. */
async function killMember(pid: number, directory: string): Promise<void> {
  const [host = '', vmId = ''] = directory.split('/').slice(-2);
  const cgroup = (await textOf(`/proc/${pid}/cgroup`)) ?? '';
  if (!cgroup.split('\n').some((line) => line.endsWith(`/${host}/${vmId}`))) return;
  sendSignal(pid, 'SIGKILL');
}

async function pidsIn(directory: string): Promise<number[]> {
  const text = (await textOf(join(directory, PROCS))) ?? '';
  return text
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 1);
}

/** @returns the ids of all VMs that have a group of this host, sorted */
export async function listGroups(tree: GroupTree): Promise<string[]> {
  const found = new Set<string>();
  for (const root of new Set(Object.values(tree.roots))) {
    for (const name of await subdirectories(join(root, tree.hostName))) if (VM_ID_PATTERN.test(name)) found.add(name);
  }
  return [...found].sort();
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'latin1');
  } catch (error) {
    // ENODEV: the group was removed while its file was open.
    if (isErrno(error, 'ENOENT', 'ENODEV', 'ESRCH', 'ENOTDIR')) return undefined;
    throw error;
  }
}
