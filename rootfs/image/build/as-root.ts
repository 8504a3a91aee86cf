import { KilnError } from '../../../domain/failures.ts';
import { runCommand } from '../../../linux/run-command.ts';

/** Words before a command that has to run as root: none for root itself. */
export type AsRoot = readonly string[];

/**
 * Root of a user namespace of its own. The ids that `/etc/subuid` gives to this user are mapped into it: files made in
 * one such namespace have the same owners in the next.
 */
export const IN_USER_NAMESPACE: AsRoot = ['unshare', '--map-root-user', '--map-auto', '--'];

/** @returns whether a command is root only in a namespace, so it cannot mount or make devices for the machine */
export function isInUserNamespace(asRoot: AsRoot): boolean {
  return asRoot[0] === 'unshare';
}

/**
 * Finds a way to run as root here: already root, a user namespace, or sudo without a password.
 * @throws UNSUPPORTED naming what would make one of them work
 */
export async function findAsRoot(): Promise<AsRoot> {
  if (process.getuid?.() === 0) return [];
  for (const words of [IN_USER_NAMESPACE, ['sudo', '-n']]) {
    const { code } = await runCommand([...words, 'true']).catch(() => ({ code: 1 }));
    if (code === 0) return words;
  }
  throw new KilnError('UNSUPPORTED', 'Images need root, a user namespace with numbers of its own, or sudo.', {
    fix: 'apt-get install uidmap, and a line for this user in /etc/subuid and /etc/subgid (usermod --add-subuids); or run it as root',
  });
}
