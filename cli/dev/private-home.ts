/** Closes a home to other users at the start of its stack: one that an older Kiln has made was open to look at. */
import { join } from 'node:path';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { closeAlone, closeToOthers } from '../../linux/private-files.ts';

/** The host worker closes its own folder, where VMMs of other users have files open. */
const OF_HOST = 'host';
const FOLDERS = ['temporal', 's3', 'logs'];
/** `dev.json`, `dev.lock`, `identity.json`, `processes.json`, and what is left of an interrupted writing of one. */
const FILES = /^(dev|identity|processes)\.(json|lock)(\.|$)/;

/** More than a home of a laptop has; what lies deeper is in folders that are closed by then. */
const MAX_ENTRIES = 50_000;

/** Folders 0700, files 0600. A home that holds anything that is not of Kiln is left open itself: it is somebody's own. */
export async function closeHome(home: string): Promise<void> {
  const names = await directoryEntries(home);
  const own = names.filter((name) => FOLDERS.includes(name) || FILES.test(name));
  if (names.every((name) => name === OF_HOST || own.includes(name))) await closeAlone(home);
  for (const name of own) await closeToOthers(join(home, name), { maxEntries: MAX_ENTRIES });
}
