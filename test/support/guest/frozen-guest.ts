/** A frozen guest of the image that set-up built, and disks for clones of it. */
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSetupRecord } from '../../../config/setup-record.ts';
import { FROZEN_FILES, type VmSpec } from '../../../domain/vm.ts';
import type { VmDriver } from '../../../ports/vm-driver.ts';
import { createQemuDriver } from '../../../vmm/qemu/qemu-driver.ts';
import { imageVmSpec, overlay, silentLog, testTscRate, vmUsers } from '../host/vm-fixtures.ts';

export interface FrozenGuest {
  /** @returns the spec of a VM that continues from the frozen guest */
  cloneSpec(vmId: string, directory: string): Promise<VmSpec>;
  remove(): Promise<void>;
}

/** Takes a little longer than a cold boot. */
export async function freezeGuest(): Promise<FrozenGuest> {
  const root = await mkdtemp(join(tmpdir(), 'kf-'));
  await chmod(root, 0o711);
  const directory = join(root, 'template');
  const places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
  const driver = createQemuDriver({ ...places, log: silentLog, tscKhz: testTscRate, accel: 'tcg', ...vmUsers(root) });
  await freezeInto(driver, directory, 'frozen');
  return {
    cloneSpec: (vmId, target) => cloneSpecOf(directory, vmId, target),
    remove: () => rm(root, { recursive: true }),
  };
}

/** Boots a guest and freezes it into a directory, which is created. */
export async function freezeInto(driver: VmDriver, directory: string, name: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const { vmId: _, owner: __, ...spec } = await imageVmSpec('frozen-1-1', directory);
  await driver.templates?.freeze({ directory, name, spec, warm: [], deadlineMs: 60_000 });
}

/** @param frozen directory of the frozen guest @param target directory of the clone */
export async function cloneSpecOf(frozen: string, vmId: string, target: string): Promise<VmSpec> {
  const cold = await imageVmSpec(vmId, target);
  const image = { path: join(readSetupRecord().image.directory, 'rootfs.ext4'), format: 'raw' } as const;
  const root = { path: join(frozen, 'root.qcow2'), format: 'qcow2' } as const;
  const clone = await overlay('kiln-root', root, join(target, 'clone.qcow2'), [image]);
  return {
    ...cold,
    drives: [clone, ...cold.drives.slice(1)],
    template: {
      templateId: 'frozen',
      memoryPath: join(frozen, FROZEN_FILES.memory),
      statePath: join(frozen, FROZEN_FILES.state),
    },
  };
}
