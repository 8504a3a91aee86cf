/** A guest of the image that set-up built, frozen, and disks for clones of it. */
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VmSpec } from '../../domain/vm.ts';
import { createQemuDriver } from '../../vmm/qemu/qemu-driver.ts';
import { imageVmSpec, overlay, silentLog, testTscRate, vmUsers } from './vm-fixtures.ts';

export interface FrozenGuest {
  /** What a VM is prepared with to go on from it. */
  cloneSpec(vmId: string, directory: string): Promise<VmSpec>;
  remove(): Promise<void>;
}

/** Takes as long as a cold boot and a little more. */
export async function freezeGuest(): Promise<FrozenGuest> {
  const root = await mkdtemp(join(tmpdir(), 'kf-'));
  await chmod(root, 0o711);
  const directory = join(root, 'template');
  await mkdir(directory);
  const { drives, ...machine } = await imageVmSpec('frozen-1-1', directory);
  const places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
  const driver = createQemuDriver({ ...places, log: silentLog, tscKhz: testTscRate, accel: 'tcg', ...vmUsers(root) });
  await driver.templates?.freeze({
    directory,
    name: 'frozen',
    spec: { ...machine, drives },
    warm: [],
    deadlineMs: 60_000,
  });
  return {
    async cloneSpec(vmId, target) {
      const cold = await imageVmSpec(vmId, target);
      const [root] = drives;
      if (root === undefined) throw new Error('a guest has a root disk');
      const path = join(target, 'clone.qcow2');
      const clone = await overlay('kiln-root', { path: root.path, format: 'qcow2' }, path, root.backing);
      return {
        ...cold,
        drives: [clone, ...cold.drives.slice(1)],
        template: {
          templateId: 'frozen',
          memoryPath: join(directory, 'memory'),
          statePath: join(directory, 'state'),
        },
      };
    },
    remove: () => rm(root, { recursive: true }),
  };
}
