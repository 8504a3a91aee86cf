import type { VmLaunch } from '../vm-user.ts';

/**
 * When the machine runs out of memory, guests die before workers: a worker has 0, and 1000 dies first. Raising one's
 * own score needs no rights.
 */
const OOM_SCORE_ADJ = '700';

/**
 * Joins the groups by its own pid (0 stands for it), and only then becomes the VMM, in the same process. If it cannot
 * join, it ends: a VM must not run outside of its group. `$@`: score, files of the groups, `--`, the command.
 */
const SCRIPT = [
  'set -e',
  // Somebody may have set it higher already: then lowering it may be refused, and is not wanted.
  '{ echo "$1" >/proc/self/oom_score_adj; } 2>/dev/null || :',
  'shift',
  'while [ "$1" != -- ]; do echo 0 >"$1"; shift; done',
  'shift',
  // The shell's own variables; the VMM gets only the environment that it is given.
  'unset PWD OLDPWD',
  'exec "$@"',
].join('\n');

/**
 * @param procsFiles `cgroup.procs` of every group to be in; only their owner may write there, so a VMM with its own
 * user becomes that user after it has joined
 * @returns how the same process is started in its groups
 */
export function launchInGroup(command: VmLaunch, procsFiles: readonly string[]): VmLaunch {
  const { user, argv, ...rest } = command;
  const shell = ['/bin/sh', '-c', SCRIPT, 'kiln-launch', OOM_SCORE_ADJ, ...procsFiles, '--'];
  if (user === undefined || procsFiles.length === 0) return { ...command, argv: [...shell, ...argv] };
  const becoming = ['setpriv', '--reuid', String(user.uid), '--regid', String(user.gid), '--clear-groups', '--'];
  return { ...rest, argv: [...shell, ...becoming, ...argv] };
}
