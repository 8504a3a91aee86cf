/** Pooled VMs over a driver: booted without knowing any workload, paused, and handed out by a rename. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { VM_ID_PATTERN } from '../../contracts/host/instance-record.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { type GuestKind, guestKindKey, resourcesOf } from '../../domain/guest-kind.ts';
import type { PoolTemplate } from '../../domain/pool/pool-policy.ts';
import { sameOwner, type VmOwner } from '../../domain/vm.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { readStateFile, removeInterrupted, removeStateFile, writeStateFile } from '../../linux/state-file.ts';
import type { CapacityLedger } from '../../ports/host.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostVms } from '../vms/vm-host.ts';
import type { ListedPoolVm, PoolBoot, PooledVms, PoolMeans } from './pool-ports.ts';

export interface DriverPooledVmsOptions {
  readonly hostId: string;
  readonly stateDir: string;
  readonly driver: VmDriver;
  readonly records: InstanceStore;
  readonly vms: Pick<HostVms, 'provision' | 'release'>;
  readonly ledger: CapacityLedger;
  /** What the driver can do for a pool beyond a cold boot. */
  readonly means: Omit<PoolMeans, 'templates'>;
  readonly bootMs: number;
  /** Life of a pooled VM's reservation beyond that of its record. */
  readonly reservationTtlMs: number;
}

const keySchema = z.strictObject({
  imageDigest: z.string().min(1).max(256),
  vcpus: z.number().positive(),
  memMib: z.number().positive(),
  diskMib: z.number().positive().exactOptional(),
  projectId: z.string().min(1).max(256).exactOptional(),
}) satisfies z.ZodType<GuestKind>;

/** `<stateDir>/pool/<poolVmId>.json`: written before anything is made under that name, removed last. */
const pooledSchema = z.strictObject({
  poolVmId: z.string().regex(VM_ID_PATTERN),
  key: keySchema,
  createdAt: z.iso.datetime(),
  template: z.strictObject({ templateId: z.string().min(1).max(256), createdAtMs: z.number() }).exactOptional(),
});

/** Workflow id in the records of VMs that belong to no workload yet. */
const POOL_OWNER = 'pool/';

/** @returns whether this owner, of a VM or a reservation, is a pool */
export function isPoolOwner(workflowId: string): boolean {
  return workflowId.startsWith(POOL_OWNER);
}

/** @returns pooled VMs over the driver. One process per state directory. */
export function createDriverPooledVms(options: DriverPooledVmsOptions): PooledVms {
  return new DriverPooledVms(options);
}

class DriverPooledVms implements PooledVms {
  private readonly options: DriverPooledVmsOptions;
  private readonly directory: string;
  private readonly boot: PoolBoot;
  private listedBefore = false;

  constructor(options: DriverPooledVmsOptions) {
    this.options = options;
    this.directory = join(options.stateDir, 'pool');
    this.boot = options.means.boot ?? ((request) => this.bootAsProvisioned(request));
  }

  async create(
    key: GuestKind,
    poolVmId: string,
    { from, signal }: { from: 'template' | 'cold'; signal: AbortSignal },
  ): Promise<{ template?: PoolTemplate }> {
    const pooled = { poolVmId, key: { ...key }, createdAt: new Date().toISOString() };
    await writeStateFile(this.file(poolVmId), pooled);
    try {
      signal.throwIfAborted();
      await this.reserve(key, poolVmId);
      const { imageDigest } = key;
      const resources = resourcesOf(key);
      const cold = from === 'cold';
      const owner = this.ownerOf(key);
      await this.options.vms.provision({ vmId: poolVmId, owner, imageDigest, resources, cold, signal });
      const booted = await this.boot({ poolVmId, key, from, deadlineMs: this.options.bootMs, signal });
      // Detached only once it is paused: the guest never notices, and answers its next host at once.
      await this.options.means.pausing?.pause(poolVmId);
      await booted.letGo?.();
      if (booted.template !== undefined) {
        await writeStateFile(this.file(poolVmId), { ...pooled, template: booted.template });
      }
      signal.throwIfAborted();
      return defined({ template: booted.template });
    } catch (error) {
      await this.blameTemplate(error);
      await this.destroy(poolVmId);
      throw error;
    }
  }

  async claim(poolVmId: string, { vmId, owner }: { vmId: string; owner: VmOwner }): Promise<boolean> {
    const { driver, records } = this.options;
    const standing = await records.read(vmId);
    if (standing === undefined) {
      // A VM that is already or half renamed has no status under its old name.
      const status = await driver.status(poolVmId).catch((error: unknown) => {
        if (isKilnError(error, 'INTERNAL')) return undefined;
        throw error;
      });
      if (status !== undefined && status.state !== 'running' && status.state !== 'paused') return false;
    }
    const now =
      standing ?? (await records.rename(poolVmId, vmId, (record) => ({ ...record, vmId, owner, start: 'pool' })));
    if (now === undefined) return false;
    if (!sameOwner(now.owner, owner)) {
      throw new KilnError('CONFLICT', `VM ${vmId} belongs to ${now.owner.workflowId}, epoch ${now.owner.epoch}`);
    }
    await this.forget(poolVmId);
    return true;
  }

  async destroy(poolVmId: string): Promise<void> {
    // Does not touch a VM that has another name by now: the driver checks all records.
    await this.options.vms.release(poolVmId, { graceMs: 0 });
    await this.forget(poolVmId);
  }

  async list(): Promise<readonly ListedPoolVm[]> {
    const listed: ListedPoolVm[] = [];
    if (!this.listedBefore) await removeInterrupted(this.directory);
    this.listedBefore = true;
    for (const name of await directoryEntries(this.directory)) {
      if (!name.endsWith('.json')) continue;
      const pooled = await readStateFile(join(this.directory, name), pooledSchema).catch(() => undefined);
      if (pooled === undefined) continue;
      const { poolVmId, key, createdAt } = pooled;
      const status = await this.options.driver.status(poolVmId).catch(() => undefined);
      // A record that cannot be read proves nothing: leave the VM as it is.
      if (status === undefined) continue;
      // The process that made it may have died before it wrote this.
      const template = pooled.template ?? (await this.templateOf(poolVmId));
      listed.push({
        poolVmId,
        key,
        createdAtMs: Date.parse(createdAt),
        ...defined({ template }),
        state: status.state === 'running' || status.state === 'paused' ? 'ready' : 'broken',
      });
    }
    return listed;
  }

  private async reserve(key: GuestKind, poolVmId: string): Promise<void> {
    const reserved = await this.options.ledger.reserve({
      id: poolVmId,
      ownerWorkflowId: this.ownerOf(key).workflowId,
      resources: { vcpus: key.vcpus, memMib: key.memMib },
      ttlMs: this.options.reservationTtlMs,
    });
    if (!reserved) throw new KilnError('NO_CAPACITY', `The host has no room for a pooled VM of ${key.memMib} MiB.`);
  }

  private async blameTemplate(error: unknown): Promise<void> {
    if (!isKilnError(error, 'TEMPLATE_CORRUPT', 'TEMPLATE_MISMATCH')) return;
    const { templateId } = error.details;
    if (typeof templateId === 'string') await this.options.means.blameTemplate?.(templateId, error);
  }

  /** The guest gets no identity yet: its later owner configures it before anything runs in it. */
  private async bootAsProvisioned({ poolVmId, deadlineMs, signal }: Parameters<PoolBoot>[0]): ReturnType<PoolBoot> {
    const { agent } = await this.options.driver.start(poolVmId, { deadlineMs, signal });
    const letGo = () => agent.detach();
    const template = await this.templateOf(poolVmId);
    return template === undefined ? { letGo } : { letGo, template };
  }

  /** @returns the template that the VM was cloned from, if it is still known */
  private async templateOf(poolVmId: string): Promise<PoolTemplate | undefined> {
    const templateId = (await this.options.records.read(poolVmId))?.template?.templateId;
    return templateId === undefined ? undefined : this.options.means.templateOf?.(templateId);
  }

  /** Removes its reservation and its entry in the pool; the workload has a reservation of its own. */
  private async forget(poolVmId: string): Promise<void> {
    await this.options.ledger.release(poolVmId);
    await removeStateFile(this.file(poolVmId));
  }

  private file(poolVmId: string): string {
    return join(this.directory, `${poolVmId}.json`);
  }

  private ownerOf(key: GuestKind): VmOwner {
    const of = createHash('sha256').update(guestKindKey(key)).digest('hex').slice(0, 12);
    return {
      workflowId: `${POOL_OWNER}${this.options.hostId}/${of}`,
      firstExecutionId: 'none',
      namespaceId: 'none',
      epoch: 0,
      boot: 0,
      role: 'pool',
      ...defined({ projectId: key.projectId }),
    };
  }
}
