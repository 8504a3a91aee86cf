/** Guests for measurements, straight over the driver: booted cold, or cloned from a template made for the purpose. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type BaseDisk, type CachedImage, FROZEN_FILES } from '../domain/vm.ts';
import type { StartedVm, VmDriver } from '../ports/vm-driver.ts';
import { parseKib } from '../vmm/limits/process-usage.ts';
import { type Bed, disks, prepareBed, specOf } from './vm-bed.ts';

const run = promisify(execFile);
const BOOT_DEADLINE_MS = 120_000;

export interface Template {
  readonly directory: string;
  readonly root: BaseDisk;
  readonly memMib: number;
}

export class GuestBed {
  readonly driver: VmDriver;
  readonly image: CachedImage;
  private readonly bed: Bed;
  private readonly directory: string;
  private readonly signal: AbortSignal;
  private vms = 0;

  private constructor(directory: string, bed: Bed, signal: AbortSignal) {
    this.directory = directory;
    this.bed = bed;
    this.image = bed.image;
    this.driver = bed.driver;
    this.signal = signal;
  }

  static async make(directory: string, signal: AbortSignal): Promise<GuestBed> {
    await chmod(directory, 0o711);
    return new GuestBed(directory, await prepareBed(directory), signal);
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
    const drives = await disks(this.bed, 'template', { base, directory });
    const [root] = drives;
    if (root === undefined) throw new Error('a guest has a root disk');
    await this.driver.templates?.freeze({
      directory,
      name: `bench-${this.vms}`,
      spec: { ...specOf(this.image, 'template', drives), memMib },
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
    const drives = await disks(this.bed, vmId, { base });
    await this.driver.prepare({ ...specOf(this.image, vmId, drives), memMib, ...template });
    return vmId;
  }

  /** @returns ms to the agent's first answer (its hello, to an attach with a fresh nonce), to a configured guest, and the guest */
  async start(vmId: string): Promise<{ answeredMs: number; readyMs: number; vm: StartedVm }> {
    const begun = performance.now();
    const vm = await this.driver.start(vmId, { deadlineMs: BOOT_DEADLINE_MS, signal: this.signal });
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
      const { provisioner, disksDir } = this.bed;
      await provisioner.release({ directory: disksDir, vmId, disks: [] });
      await provisioner.release({ directory: disksDir, vmId: `${vmId}-work`, disks: [] });
    }
  }

  async remove(template: Template): Promise<void> {
    await rm(template.directory, { recursive: true });
  }
}

/** @returns MiB of memory of a process, shared memory counted proportionally (PSS) */
export async function pssMib(pid: number): Promise<number> {
  return (parseKib(await readFile(`/proc/${pid}/smaps_rollup`, 'utf8'), 'Pss') ?? Number.NaN) / 2 ** 20;
}
