import { readFile } from 'node:fs/promises';

/** Start time of a process in clock ticks, '' where there is none; a pid alone may have been given to another since. */
export async function processStartTime(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}
