import { readFile } from 'node:fs/promises';

/**
 * Start time of a process in clock ticks; a pid alone may have been given to another since.
 * @returns '' where there is none, or where it is dead and only waits to be collected: nobody may ever do that
 */
export async function processStartTime(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? '' : (fields[19] ?? '');
}
