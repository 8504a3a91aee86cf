import { open } from 'node:fs/promises';

/** Makes the renames, new files and removals in a directory survive a power cut: syncing a file does not do that. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
