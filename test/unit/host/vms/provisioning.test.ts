import { mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defined } from '../../../../domain/defined.ts';
import type { CachedImage, VmSpec } from '../../../../domain/vm.ts';
import {
  builderResources,
  DEFAULT_BUILDER_RESOURCES,
  needsOf,
  sameNeeds,
} from '../../../../domain/workload/workload.ts';
import { type ProvisioningPorts, provisionVm } from '../../../../host/vms/provisioning.ts';
import type { RootfsProvisioner } from '../../../../ports/disks.ts';
import type { EmptyDisks } from '../../../../rootfs/provisioners/empty-disks.ts';
import { createRoBaseScratchProvisioner } from '../../../../rootfs/provisioners/ro-base-scratch.ts';
import { createSparseCopyProvisioner } from '../../../../rootfs/provisioners/sparse-copy.ts';

const MIB = 2 ** 20;
const owner = {
  workflowId: 'workload/a',
  firstExecutionId: 'first',
  namespaceId: 'default',
  ...({ epoch: 1, boot: 1, role: 'service' } as const),
};

describe('the disks of a VM', () => {
  let root: string;
  let image: CachedImage;
  let prepared: VmSpec[];

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kiln-provision-'));
    prepared = [];
    const rootfsPath = await emptyFile('rootfs.ext4', 8);
    const workspacePath = await emptyFile('workspace.ext4', 16);
    image = {
      name: 'node',
      digest: `sha256:${'0'.repeat(64)}`,
      kernelPath: '/none/vmlinux',
      initrdPath: '/none/initrd',
      rootfsPath,
      rootfsBytes: 8 * MIB,
      workspacePath,
      sha256: { kernel: 'none', rootfs: 'none' },
    };
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  async function emptyFile(name: string, mib: number): Promise<string> {
    const path = join(root, name);
    await writeFile(path, name);
    await truncate(path, mib * MIB);
    return path;
  }

  const emptyDisks: EmptyDisks = {
    ensure: async (use, mib) => ({ path: await emptyFile(`${use}-${mib}.ext4`, mib), format: 'raw' }),
  };

  async function provision(diskMib?: number, changes: Partial<ProvisioningPorts> = {}): Promise<readonly number[]> {
    const ports: ProvisioningPorts = {
      driver: { prepare: async (spec) => void prepared.push(spec) },
      provisioner: createSparseCopyProvisioner(),
      workspaces: createSparseCopyProvisioner(),
      emptyDisks,
      freeBytes: 0,
      stateDir: root,
      images: { ensure: async () => image },
      // As if the record had not been written yet: even then a retry makes nothing a second time.
      records: { directory: (vmId) => join(root, 'vms', vmId), read: async () => undefined },
      ...changes,
    };
    const resources = { vcpus: 1, memMib: 128, ...defined({ diskMib }) };
    await provisionVm(ports, { vmId: 'a-1-1', owner, imageDigest: image.digest, resources });
    const drives = prepared.at(-1)?.drives ?? [];
    return await Promise.all(drives.map(async ({ path }) => (await stat(path)).size / MIB));
  }

  it('are a copy of the image and a workspace of its size', async () => {
    expect(await provision()).toEqual([8, 16]);
    expect(prepared[0]?.drives.map(({ serial, readOnly }) => [serial, readOnly])).toEqual([
      ['kiln-root', false],
      ['kiln-workspace', false],
    ]);
  });

  it('hold as much as the quota says, and are found again on a retry', async () => {
    expect(await provision(64)).toEqual([8, 64]);
    expect(await provision(64)).toEqual([8, 64]);
    expect(prepared[1]).toEqual(prepared[0]);
  });

  it('are three where the image itself is the root, which nobody may write', async () => {
    const provisioner: RootfsProvisioner = createRoBaseScratchProvisioner(emptyDisks);
    expect(await provision(64, { provisioner })).toEqual([8, 64, 64]);
    expect(prepared[0]?.drives.map(({ serial, readOnly }) => [serial, readOnly])).toEqual([
      ['kiln-root', true],
      ['kiln-workspace', false],
      ['kiln-scratch', false],
    ]);
    expect(prepared[0]?.drives[0]?.path).toBe(image.rootfsPath);
  });

  it('are not made where the host has less space than it keeps free', async () => {
    const freeBytes = Number.MAX_SAFE_INTEGER;
    await expect(provision(64, { freeBytes })).rejects.toMatchObject({
      code: 'DISK_FULL',
      details: { wantedBytes: freeBytes },
    });
    expect(prepared).toEqual([]);
    expect(await readdir(root)).toEqual(['rootfs.ext4', 'workspace.ext4']);
  });
});

describe('a disk quota', () => {
  const manifest = { language: 'node', resources: { diskMib: 100 } } as const;

  it('comes from the request, else from the manifest, else from the image', () => {
    expect(needsOf({}).resources.diskMib).toBeUndefined();
    expect(needsOf({}, manifest).resources.diskMib).toBe(100);
    expect(needsOf({ resources: { diskMib: 200 } }, manifest).resources.diskMib).toBe(200);
  });

  it('of the manifest alone is a need that the request did not tell', () => {
    expect(sameNeeds(needsOf({}), needsOf({}, manifest))).toBe(false);
  });

  it('larger than that of a builder is one of the builder too', () => {
    expect(builderResources({ vcpus: 8, memMib: 8192, diskMib: 100 })).toEqual(DEFAULT_BUILDER_RESOURCES);
    expect(builderResources({ vcpus: 1, memMib: 512, diskMib: 9000 })).toEqual({
      ...DEFAULT_BUILDER_RESOURCES,
      diskMib: 9000,
    });
  });
});
