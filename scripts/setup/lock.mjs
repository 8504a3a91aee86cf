/** One set-up at a time for one cache. The kernel holds the lock and frees it when the owner dies. */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { SetupError } from './run.mjs';

/**
 * Runs `work` while no other process holds the lock at `path`.
 * A child holds it for as long as its stdin, a pipe from here, stays open: whatever ends this process ends the lock.
 * @param onWait called once where another process has it
 */
export async function withLock(path, onWait, work) {
  mkdirSync(dirname(path), { recursive: true });
  const holder = spawn('flock', ['--no-fork', path, 'sh', '-c', 'echo locked; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    // Ctrl-C belongs to the work; the lock goes when this process goes.
    detached: true,
  });
  const notice = setTimeout(onWait, 500);
  try {
    await new Promise((resolve, reject) => {
      holder.stdout.once('data', resolve);
      holder.once('error', () =>
        reject(new SetupError('flock is not installed', 'sudo apt-get install -y util-linux')),
      );
      holder.once('exit', () => reject(new SetupError(`cannot lock ${path}: is its folder writable?`)));
    });
    clearTimeout(notice);
    return await work();
  } finally {
    clearTimeout(notice);
    holder.stdin.end();
  }
}
