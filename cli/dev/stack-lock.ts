import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../domain/failures.ts';

/** Takes the one lock of a home. A lock whose process is gone is taken over. @returns how to give it back. */
export async function lockStack(home: string): Promise<() => Promise<void>> {
  await mkdir(home, { recursive: true });
  const path = join(home, 'dev.lock');
  const mine = `${process.pid} ${await startTime(process.pid)}`;
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, mine);
  try {
    for (;;) {
      // A hard link either makes the name or fails: of two at once exactly one wins.
      const taken = await link(draft, path).then(
        () => true,
        () => false,
      );
      if (taken) return () => rm(path, { force: true });
      const owner = await readFile(path, 'utf8').catch(() => '');
      if (await isAlive(owner)) {
        throw new KilnError(
          'CONFLICT',
          `A stack runs on ${home} already (pid ${owner.split(' ')[0]}). Stop it, or set KILN_HOME to another folder.`,
        );
      }
      await rm(path, { force: true });
    }
  } finally {
    await rm(draft, { force: true });
  }
}

async function isAlive(owner: string): Promise<boolean> {
  const [pid, started] = owner.split(' ');
  return pid !== undefined && started !== undefined && (await startTime(Number(pid))) === started;
}

/** Start time of a process in clock ticks; a pid alone may have been given to another since. */
async function startTime(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}
