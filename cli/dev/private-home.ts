/** Closes a home to other users at the start of its stack: an older Kiln made it readable for all. */
import { join } from 'node:path';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { closeAlone, closeToOthers } from '../../linux/private-files.ts';

/** The host worker closes its own folder, where VMMs of other users have files open. */
const OF_HOST = 'host';
const FOLDERS = ['temporal', 's3', 'logs'];
/** `dev.json`, `dev.lock`, `identity.json`, `processes.json`, and leftovers of an interrupted write of one. */
const FILES = /^(dev|identity|processes)\.(json|lock)(\.|$)/;

/** More than a laptop's home holds; anything deeper is in folders that are already closed. */
const MAX_ENTRIES = 50_000;

/** Folders 0700, files 0600. A home that also holds files not made by Kiln stays open itself: it is a user's own. */
export async function closeHome(home: string): Promise<void> {
  const names = await directoryEntries(home);
  const own = names.filter((name) => FOLDERS.includes(name) || FILES.test(name));
  if (names.every((name) => name === OF_HOST || own.includes(name))) await closeAlone(home);
  for (const name of own) await closeToOthers(join(home, name), { maxEntries: MAX_ENTRIES });
}
