/** Guests for measurements, straight over the driver: booted cold, or cloned from a template made for the purpose. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { StartedVm, VmDriver } from '../activities/ports.ts';
import { readSetupRecord } from '../config/setup-record.ts';
import { type BaseDisk, type CachedImage, type DriveSpec, FROZEN_FILES, type VmSpec } from '../domain/vm.ts';
import { cachedImage, readManifest } from '../rootfs/image/local-images.ts';
import { createQcow2OverlayProvisioner } from '../rootfs/provisioners/qcow2-overlay.ts';
import { createQemuDriver } from '../vmm/qemu/qemu-driver.ts';
import { createTscRate } from '../vmm/qemu/tsc-rate.ts';

const run = promisify(execFile);
const BOOT_DEADLINE_MS = 120_000;
const PROVISIONER = createQcow2OverlayProvisioner();

export interface Template {
  readonly directory: string;
  readonly root: BaseDisk;
  readonly memMib: number;
}

export class GuestBed {
  readonly driver: VmDriver;
  readonly image: CachedImage;
  private readonly directory: string;
  private readonly signal: AbortSignal;
  private vms = 0;

  private constructor(directory: string, image: CachedImage, driver: VmDriver, signal: AbortSignal) {
    this.directory = directory;
    this.image = image;
    this.driver = driver;
    this.signal = signal;
  }

  static async make(directory: string, signal: AbortSignal): Promise<GuestBed> {
    const { image, cacheDir, tscProbePath } = readSetupRecord();
    const imagesDir = join(cacheDir, 'images');
    const manifest = await readManifest(imagesDir, image.digest);
    if (manifest === undefined) throw new Error('the guest image is gone: run `npm run setup`');
    await chmod(directory, 0o711);
    const driver = createQemuDriver({
      stateDir: join(directory, 'state'),
      runtimeDir: join(directory, 'run'),
      log: { info: () => undefined, warn: () => undefined },
      tscKhz: createTscRate({ deadlineMs: 10_000, ...(tscProbePath === undefined ? {} : { probePath: tscProbePath }) }),
    });
    return new GuestBed(directory, cachedImage(imagesDir, image.digest, manifest), driver, signal);
  }

  /** The image's root file system with `bytes` of it allocated: a bigger base to make disks over. */
  async largeBase(bytes: number): Promise<BaseDisk> {
    const path = join(this.directory, `base-${bytes}.ext4`);
    await run('cp', ['--sparse=always', this.image.rootfsPath, path]);
    await run('chmod', ['u+w', path]);
    await run('fallocate', ['-l', String(bytes), path]);
    return { path, format: 'raw' };
  }

  async template(memMib: number, base: BaseDisk = { path: this.image.rootfsPath, format: 'raw' }): Promise<Template> {
    this.vms += 1;
    const directory = join(this.directory, `template-${this.vms}`);
    await mkdir(directory);
    const drives = await this.drives(directory, 'template', base);
    const [root] = drives;
    if (root === undefined) throw new Error('a guest has a root disk');
    await this.driver.templates?.freeze({
      directory,
      name: `bench-${this.vms}`,
      spec: { ...this.machine(memMib), drives },
      warm: [['node', '-e', 'require("node:http")']],
      deadlineMs: BOOT_DEADLINE_MS,
      signal: this.signal,
    });
    return { directory, root: { path: root.path, format: root.format, backing: root.backing ?? [] }, memMib };
  }

  /** Disks and record of a VM that is not started yet. @returns its id */
  async prepared(from: Template | number): Promise<string> {
    this.vms += 1;
    const vmId = `bench-1-${this.vms}`;
    const directory = join(this.directory, 'disks');
    await mkdir(directory, { recursive: true });
    const memMib = typeof from === 'number' ? from : from.memMib;
    const base: BaseDisk = typeof from === 'number' ? { path: this.image.rootfsPath, format: 'raw' } : from.root;
    const template =
      typeof from === 'number'
        ? {}
        : {
            template: {
              templateId: 'bench',
              memoryPath: join(from.directory, FROZEN_FILES.memory),
              statePath: join(from.directory, FROZEN_FILES.state),
            },
          };
    const owner = {
      workflowId: `bench/${vmId}`,
      firstExecutionId: 'bench',
      namespaceId: 'bench',
      ...{ epoch: 1, boot: 1, role: 'service' as const },
    };
    const drives = await this.drives(directory, vmId, base);
    await this.driver.prepare({ vmId, owner, ...this.machine(memMib), drives, ...template });
    return vmId;
  }

  /** @returns ms to the agent's first answer, to a configured guest, and the guest */
  async start(vmId: string): Promise<{ answeredMs: number; readyMs: number; vm: StartedVm }> {
    const begun = performance.now();
    const vm = await this.driver.start(vmId, { deadlineMs: BOOT_DEADLINE_MS, signal: this.signal });
    await vm.agent.ping();
    const answeredMs = performance.now() - begun;
    await vm.agent.configure({
      hostname: vmId,
      seedHex: randomBytes(32).toString('hex'),
      machineId: randomBytes(16).toString('hex'),
      wallClockMs: Date.now(),
    });
    return { answeredMs, readyMs: performance.now() - begun, vm };
  }

  async destroy(vmIds?: readonly string[]): Promise<void> {
    for (const vmId of vmIds ?? (await this.driver.list())) {
      await this.driver.destroy(vmId);
      await PROVISIONER.release({ directory: join(this.directory, 'disks'), vmId });
      await PROVISIONER.release({ directory: join(this.directory, 'disks'), vmId: `${vmId}-w` });
    }
  }

  async remove(template: Template): Promise<void> {
    await rm(template.directory, { recursive: true });
  }

  private machine(memMib: number): Omit<VmSpec, 'vmId' | 'owner' | 'drives'> {
    const { kernelPath, initrdPath, digest } = this.image;
    return { vcpus: 1, memMib, kernelPath, initrdPath, imageDigest: digest };
  }

  private async drives(directory: string, vmId: string, base: BaseDisk): Promise<DriveSpec[]> {
    const empty: BaseDisk = { path: this.image.workspacePath, format: 'raw' };
    const root = await PROVISIONER.provision({ base, directory, vmId });
    const workspace = await PROVISIONER.provision({ base: empty, directory, vmId: `${vmId}-w` });
    return [
      { serial: 'kiln-root', ...root, readOnly: false },
      { serial: 'kiln-workspace', ...workspace, readOnly: false },
    ];
  }
}

/** @returns MiB of memory that belong to a process, what it shares with others counted in parts */
export async function pssMib(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? Number.NaN) / 1024;
}
