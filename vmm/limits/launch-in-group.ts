import type { VmLaunch } from '../vm-user.ts';

/**
 * Guests die before workers where the machine runs out of memory: 0 is what a worker has, 1000 dies first. Raising one's
 * own needs no rights.
 */
const OOM_SCORE_ADJ = '700';

/**
 * Joins the groups by its own pid (0 stands for it), and only then becomes the VMM, in the same process. A group that it
 * cannot join ends it: a VM outside of its group must not run. `$@`: score, files of the groups, `--`, the command.
 */
const SCRIPT = [
  'set -e',
  // Where somebody has put it higher already, lowering it may be refused, and is not wanted.
  '{ echo "$1" >/proc/self/oom_score_adj; } 2>/dev/null || :',
  'shift',
  'while [ "$1" != -- ]; do echo 0 >"$1"; shift; done',
  'shift',
  // The shell's own; the VMM gets no more environment than it is given.
  'unset PWD OLDPWD',
  'exec "$@"',
].join('\n');

/**
 * @param procsFiles `cgroup.procs` of every group to be in; only their owner may write there, so a VMM with a user of its
 * own becomes that user after it has joined
 * @returns how the same process is started in its groups
 */
export function launchInGroup(command: VmLaunch, procsFiles: readonly string[]): VmLaunch {
  const { user, argv, ...rest } = command;
  const shell = ['/bin/sh', '-c', SCRIPT, 'kiln-launch', OOM_SCORE_ADJ, ...procsFiles, '--'];
  if (user === undefined || procsFiles.length === 0) return { ...command, argv: [...shell, ...argv] };
  const becoming = ['setpriv', '--reuid', String(user.uid), '--regid', String(user.gid), '--clear-groups', '--'];
  return { ...rest, argv: [...shell, ...becoming, ...argv] };
}
