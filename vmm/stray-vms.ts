import { join } from 'node:path';
import { VM_ID_PATTERN } from '../contracts/host/instance-record.ts';
import { subdirectories } from '../linux/directory-entries.ts';
import { createInstanceStore } from './instance-record.ts';
import { keptSocketFolders } from './socket-folders.ts';
import { commandLines } from './vm-process.ts';

/**
 * VMs that left something here without a record: a directory, sockets, or a process that names its agent socket.
 * A VM that is being provisioned looks the same for a moment, so a sweep destroys only what it has seen for a while.
 * @returns their ids, sorted
 */
export async function findStrayVms(dirs: { stateDir: string; runtimeDir: string }): Promise<string[]> {
  const records = createInstanceStore(dirs.stateDir);
  const recorded = new Set([...(await records.list()), ...(await keptSocketFolders(records))]);
  const left = [
    ...(await subdirectories(join(dirs.stateDir, 'vms'))),
    ...(await subdirectories(dirs.runtimeDir)),
    ...(await idsOfProcesses(dirs.runtimeDir)),
  ];
  return [...new Set(left)].filter((vmId) => VM_ID_PATTERN.test(vmId) && !recorded.has(vmId)).sort();
}

async function idsOfProcesses(runtimeDir: string): Promise<string[]> {
  const before = `${runtimeDir}/`;
  const after = '/agent.sock';
  const ids: string[] = [];
  for (const { argv } of await commandLines()) {
    for (const word of argv) {
      const start = word.indexOf(before);
      const end = word.indexOf(after, start);
      if (start >= 0 && end > start) ids.push(word.slice(start + before.length, end));
    }
  }
  return ids;
}
