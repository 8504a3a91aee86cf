import { readdir, readFile, readlink } from 'node:fs/promises';

/** State `LISTEN` in `/proc/net/tcp`. */
const LISTEN = '0A';

/**
 * Whether a process itself listens on a TCP port. A port that accepts connections proves nothing: between the
 * choice of a free port and its use another stack may have taken it.
 */
export async function listensOn(pid: number, port: number): Promise<boolean> {
  const tables = await Promise.all(
    ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8').catch(() => '')),
  );
  const inodes = new Set(tables.flatMap((table) => listeningInodes(table, port)));
  if (inodes.size === 0) return false;
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const links = await Promise.all(descriptors.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
  return links.some((link) => inodes.has(link.replace(/^socket:\[(\d+)\]$/, '$1')));
}

/** @param table text of `/proc/net/tcp` or `tcp6` */
export function listeningInodes(table: string, port: number): string[] {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === LISTEN && fields[1]?.endsWith(`:${wanted}`))
    .flatMap((fields) => fields[9] ?? []);
}
