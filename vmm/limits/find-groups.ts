import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { messageOf } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import type { GroupTree } from './control-groups.ts';
import { CGROUP1, CGROUP2, type Controller, type GroupLayout } from './group-layout.ts';
import { ownLegacyGroup, ownUnifiedGroup } from './group-mounts.ts';

/** A parent of this name selects the older hierarchies, one per controller, each below this process's own group. */
export const LEGACY_PARENT = 'cgroup1';

/** Group that a worker moves itself into, so that its own group may have others below it. */
const WORKER_GROUP = 'kiln-worker';

export interface NoGroups {
  readonly reason: string;
  readonly fix: string;
}

export interface FindOptions {
  /** Directory of a cgroup2 group to make the VMs' groups below; `cgroup1`; absent: the group of this process. */
  readonly parent?: string;
  readonly hostName: string;
}

/** @returns where this host can make groups, or why it cannot */
export async function findGroups({ parent, hostName }: FindOptions): Promise<GroupTree | NoGroups> {
  const [mountinfo, cgroup] = await Promise.all([
    readFile('/proc/self/mountinfo', 'utf8'),
    readFile('/proc/self/cgroup', 'utf8'),
  ]);
  if (parent === LEGACY_PARENT) return legacy(mountinfo, cgroup, hostName);
  if (parent !== undefined) return unified(parent, hostName);
  const own = ownUnifiedGroup(mountinfo, cgroup);
  if (own === undefined) return none('no cgroup2 is mounted');
  const missing = lacking(CGROUP2, await controllersIn(own.directory));
  if (missing.length > 0) return none(`${own.directory} has no controller ${missing.join(', ')}`);
  const isLeaf = basename(own.directory) === WORKER_GROUP;
  const blocked = isLeaf ? undefined : await stepDown(own.directory);
  return blocked ?? unified(isLeaf ? dirname(own.directory) : own.directory, hostName);
}

const FIX =
  'delegate a cgroup2 group to this worker (systemd: Delegate=yes) and set KILN_CGROUP_PARENT to its directory; KILN_CGROUPS=off runs VMs without';

function none(reason: string): NoGroups {
  return { reason, fix: FIX };
}

async function unified(parent: string, hostName: string): Promise<GroupTree | NoGroups> {
  try {
    await mkdir(parent, { recursive: true });
    const has = await controllersIn(parent);
    const missing = lacking(CGROUP2, has);
    if (missing.length > 0) return none(`${parent} is given no controller ${missing.join(', ')}`);
    const roots: Partial<Record<Controller, string>> = {};
    for (const name of [...CGROUP2.needed, ...CGROUP2.wanted]) if (has.includes(name)) roots[name] = parent;
    return { layout: CGROUP2, roots, hostName };
  } catch (error) {
    return none(messageOf(error));
  }
}

async function controllersIn(directory: string): Promise<string[]> {
  try {
    return (await readFile(join(directory, 'cgroup.controllers'), 'latin1')).trim().split(/\s+/);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

function lacking({ needed }: GroupLayout, has: readonly string[]): Controller[] {
  return needed.filter((name) => !has.includes(name));
}

/**
 * On cgroup2 a group with processes, except the machine's root, enables no controllers below: the worker moves down.
 * @returns why it cannot
 */
async function stepDown(directory: string): Promise<NoGroups | undefined> {
  const isRoot = await access(join(directory, 'cgroup.type')).then(
    () => false,
    () => true,
  );
  if (isRoot) return undefined;
  const procs = (await readFile(join(directory, 'cgroup.procs'), 'latin1')).trim().split('\n');
  if (procs.some((pid) => pid !== '' && pid !== String(process.pid))) {
    return none(`other processes than this worker are in ${directory}`);
  }
  try {
    await mkdir(join(directory, WORKER_GROUP), { recursive: true });
    await writeFile(join(directory, WORKER_GROUP, 'cgroup.procs'), String(process.pid));
    return undefined;
  } catch (error) {
    return none(messageOf(error));
  }
}

/** The name of `io` in the older hierarchies. */
const LEGACY_NAMES: Partial<Record<Controller, string>> = { io: 'blkio' };

function legacy(mountinfo: string, cgroup: string, hostName: string): GroupTree | NoGroups {
  const roots: Partial<Record<Controller, string>> = {};
  for (const name of [...CGROUP1.needed, ...CGROUP1.wanted]) {
    const own = ownLegacyGroup(mountinfo, cgroup, LEGACY_NAMES[name] ?? name);
    if (own !== undefined) roots[name] = own.directory;
  }
  const missing = lacking(CGROUP1, Object.keys(roots));
  if (missing.length > 0) return none(`no hierarchy of control groups has the controller ${missing.join(', ')}`);
  return { layout: CGROUP1, roots, hostName };
}
