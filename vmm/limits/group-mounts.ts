import { join } from 'node:path';

/** Where this process is in a hierarchy of control groups, as directories of this mount namespace. Pure. */
export interface OwnGroup {
  /** Directory of the group that this process is in. */
  readonly directory: string;
  /** Where the hierarchy is mounted. */
  readonly mount: string;
}

/**
 * @param mountinfo text of `/proc/self/mountinfo`
 * @param cgroup text of `/proc/self/cgroup`
 * @returns the group in the unified hierarchy; undefined where none is mounted
 */
export function ownUnifiedGroup(mountinfo: string, cgroup: string): OwnGroup | undefined {
  return ownGroup(
    mountinfo,
    (type) => type === 'cgroup2',
    lineOf(cgroup, (names) => names === ''),
  );
}

/** @returns the group in the older hierarchy that has this controller; undefined where it is mounted nowhere */
export function ownLegacyGroup(mountinfo: string, cgroup: string, controller: string): OwnGroup | undefined {
  const has = (list: string) => list.split(',').includes(controller);
  return ownGroup(mountinfo, (type, options) => type === 'cgroup' && has(options), lineOf(cgroup, has));
}

function lineOf(cgroup: string, of: (controllers: string) => boolean): string | undefined {
  for (const line of cgroup.split('\n')) {
    const [, controllers, ...path] = line.split(':');
    if (controllers !== undefined && path.length > 0 && of(controllers)) return path.join(':');
  }
  return undefined;
}

function ownGroup(
  mountinfo: string,
  wanted: (type: string, superOptions: string) => boolean,
  path: string | undefined,
): OwnGroup | undefined {
  if (path === undefined) return undefined;
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [, , , root, mount] = before.split(' ');
    const [type = '', , options = ''] = after.split(' ');
    if (root === undefined || mount === undefined || !wanted(type, options)) continue;
    // A container's mount begins at its own group, which the path may name from the machine's root, or as `/`.
    const below = root !== '/' && (path === root || path.startsWith(`${root}/`)) ? path.slice(root.length) : path;
    return { directory: join(unescaped(mount), below), mount: unescaped(mount) };
  }
  return undefined;
}

function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
