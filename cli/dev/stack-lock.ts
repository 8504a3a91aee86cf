import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError, messageOf } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import { processStartTime } from '../../linux/process-identity.ts';

type Link = (from: string, to: string) => Promise<void>;

/**
 * Takes the one lock of a home. A lock whose process is gone is taken over. @returns how to give it back.
 * @param hardLink makes a hard link; default: that of the system
 * @throws CONFLICT where a stack runs on this home; UNSUPPORTED on a file system without hard links
 */
export async function lockStack(home: string, hardLink: Link = link): Promise<() => Promise<void>> {
  await mkdir(home, { recursive: true });
  const path = join(home, 'dev.lock');
  const mine = `${process.pid} ${await processStartTime(process.pid)}`;
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, mine);
  try {
    for (;;) {
      // A hard link either makes the name or fails: of two concurrent callers exactly one wins.
      if (await isLinked(draft, path, hardLink)) return () => rm(path, { force: true });
      const owner = await readFile(path, 'utf8').catch(() => '');
      if (await isAlive(owner)) {
        throw new KilnError(
          'CONFLICT',
          `A stack runs on ${home} already (pid ${owner.split(' ')[0]}). Stop it, or set KILN_HOME to another folder.`,
        );
      }
      await takeAway(path, owner);
    }
  } finally {
    await rm(draft, { force: true });
  }
}

/** @returns false where the name is taken. @throws UNSUPPORTED on a file system without hard links */
async function isLinked(draft: string, path: string, hardLink: Link): Promise<boolean> {
  try {
    await hardLink(draft, path);
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    const reason = messageOf(error);
    throw new KilnError('UNSUPPORTED', `The lock of this stack cannot be taken (${reason}).`, {
      fix: 'set KILN_HOME to a folder on a file system with hard links',
    });
  }
}

/** Removes a dead owner's lock, and only that: another may have taken it over between the check and the removal. */
async function takeAway(path: string, owner: string): Promise<void> {
  const aside = `${path}.stale-${process.pid}`;
  await rename(path, aside).catch(() => undefined);
  const taken = await readFile(aside, 'utf8').catch(() => owner);
  if (taken !== owner) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

async function isAlive(owner: string): Promise<boolean> {
  const [pid, started] = owner.split(' ');
  return pid !== undefined && started !== undefined && (await processStartTime(Number(pid))) === started;
}
