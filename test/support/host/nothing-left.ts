/**
 * The one check for "nothing left": everything that a VM, a workload or a whole stack could leave on a machine. Every
 * vm, fault and e2e test calls it at its end.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hostGroupName } from '../../../vmm/limits/open-limits.ts';
import { commandLines } from '../../../vmm/vm-process.ts';

export interface Places {
  /** State directory of the host: records, disks, reservations. */
  readonly stateDir: string;
  /** Directory with the sockets. */
  readonly runtimeDir: string;
  /** Host ports on which nobody may listen any more. */
  readonly ports?: readonly number[];
}

/** @returns one line for each thing that is left, with its kind and name; empty = nothing */
export async function whatIsLeft(places: Places): Promise<string[]> {
  const { stateDir, runtimeDir } = places;
  const roots = [stateDir, runtimeDir];
  const found = await Promise.all([
    processes(roots),
    entries('VM directory', join(stateDir, 'vms')),
    entries('reservation', join(stateDir, 'reservations')),
    entries('socket directory', runtimeDir),
    readFile('/proc/self/mountinfo', 'utf8').then((text) => mountsBelow(text, roots)),
    readFile('/proc/net/unix', 'utf8').then((text) => socketsBelow(text, roots)),
    listeners(places.ports ?? []),
    readFile('/proc/self/mountinfo', 'utf8').then((text) => controlGroups(text, stateDir)),
  ]);
  return found.flat();
}

async function processes(roots: readonly string[]): Promise<string[]> {
  return (await commandLines())
    .filter(
      ({ pid, argv }) => pid !== process.pid && argv.some((word) => roots.some((root) => word.includes(`${root}/`))),
    )
    .map(({ pid, argv }) => `process ${pid}: ${argv.join(' ').slice(0, 200)}`);
}

async function entries(what: string, directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).map((name) => `${what} ${join(directory, name)}`);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}

/** @param mountinfo text of `/proc/self/mountinfo` */
export function mountsBelow(mountinfo: string, roots: readonly string[]): string[] {
  return mountinfo
    .split('\n')
    .filter((line) => roots.some((root) => line.includes(`${root}/`) || line.includes(` ${root} `)))
    .map((line) => `mount ${line}`);
}

/** @param unix text of `/proc/net/unix` */
function socketsBelow(unix: string, roots: readonly string[]): string[] {
  return unix
    .split('\n')
    .filter((line) => roots.some((root) => line.includes(` ${root}/`)))
    .map((line) => `open socket ${line}`);
}

const GROUP_LEVELS = 5;

/** Control groups of the host's VMs, in every hierarchy. @param mountinfo text of `/proc/self/mountinfo` */
async function controlGroups(mountinfo: string, stateDir: string): Promise<string[]> {
  const name = hostGroupName(stateDir);
  const mounts = [...mountinfo.matchAll(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2? /gm)].map((match) => match[1] ?? '');
  const found = await Promise.all(mounts.map((mount) => foldersNamed(mount, name, GROUP_LEVELS)));
  return found.flat().map((directory) => `control group ${directory}`);
}

async function foldersNamed(directory: string, name: string, levels: number): Promise<string[]> {
  // Other processes may make and remove groups at the same time.
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const below = entries.filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name));
  const own = below.filter((path) => path.endsWith(`/${name}`));
  if (levels === 0) return own;
  return [...own, ...(await Promise.all(below.map((path) => foldersNamed(path, name, levels - 1)))).flat()];
}

async function listeners(ports: readonly number[]): Promise<string[]> {
  if (ports.length === 0) return [];
  const tables = await Promise.all(['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8')));
  const listening = new Set(tables.flatMap(listeningPorts));
  return ports.filter((port) => listening.has(port)).map((port) => `listener on port ${port}`);
}

/** @param table text of `/proc/net/tcp`; state 0A is LISTEN */
export function listeningPorts(table: string): number[] {
  return [...table.matchAll(/^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A /gm)].map((match) =>
    Number.parseInt(match[1] ?? '', 16),
  );
}
