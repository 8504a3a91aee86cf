/** The VMs of one host with their disks, channels, ports and egress. All state held here is on disk as well. */

import { randomBytes } from 'node:crypto';
import { eitherSignal } from '../../concurrency/deadline.ts';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import { isKilnError, KilnError, messageOf } from '../../domain/failures.ts';
import { type GuestKind, guestKindOf } from '../../domain/guest-kind.ts';
import type { GuestIdentity, VmExit, VmOwner, VmStart, VmStatus } from '../../domain/vm.ts';
import type { AgentChannel, EgressVerdict } from '../../ports/guest-agent.ts';
import type { EgressPolicy, VmHost } from '../../ports/host.ts';
import type { StartedVm, VmDriver, WaitExitOptions } from '../../ports/vm-driver.ts';
import { type InstanceStore, recordedStart } from '../../vmm/instance-record.ts';
import type { EgressDialer } from '../egress/dialer.ts';
import { createEgressMeter, type EgressMeter } from '../egress/egress-meter.ts';
import { createEgressPolicies, type EgressPolicies } from '../egress/policies.ts';
import type { HostLogger } from '../host-logger.ts';
import type { Templates } from '../templates/template-store.ts';
import type { PortListenerOptions } from '../vm-ports/listener.ts';
import { createVmPorts, type VmPorts } from '../vm-ports/vm-ports.ts';
import { createVmChannels, type ReattachOptions, type VmChannels } from './channels.ts';
import { type Provisioned, type ProvisioningPorts, type ProvisionRequest, provisionVm } from './provisioning.ts';
import { type TakeAwayPorts, takeAway } from './take-away.ts';
import { assertOwnedBy, isOlder } from './vm-ownership.ts';

export interface VmHostOptions extends Omit<ProvisioningPorts, 'driver' | 'records' | 'templates'> {
  readonly hostId: string;
  readonly driver: VmDriver;
  readonly records: InstanceStore;
  readonly templates?: Pick<Templates, 'find' | 'want' | 'reportFailure'>;
  /** How long a clone may take until its agent answers, ms; for a cold boot the caller sets the time. */
  readonly cloneMs: number;
  readonly dialEgress: EgressDialer;
  readonly vmPorts: PortListenerOptions & {
    /** Pause before a recorded port that is in use is tried again, ms. */
    readonly rebindMs: number;
    /** Host name in the URLs of services. */
    readonly urlHost: string;
  };
  readonly reattach: ReattachOptions;
  readonly logger: HostLogger;
  /** Called for every connection that a guest asked for. */
  readonly onEgress?: (vmId: string, request: { name: string; port: number }, verdict: EgressVerdict) => void;
  readonly onReleased?: (vmId: string) => void;
  /** Called with the duration of a start, from the call to a configured agent. */
  readonly onBooted?: (bootMs: number, start: VmStart, vmId: string) => void;
  /** Whether a guest may open connections now. */
  readonly mayAct?: (vmId: string) => boolean;
  /** Turns a VM that waits in a pool into the requested one. @returns false where there is none */
  readonly claimPooled?: (request: ProvisionRequest) => Promise<boolean>;
}

/** What became of a recorded VM when the host started. */
export interface Adoption {
  readonly vmId: string;
  readonly adopted: boolean;
  /** Why not; the VM stays recorded, and each later request for it tries again. */
  readonly reason?: string;
}

export interface HostVms extends VmHost {
  /** Reserves the recorded ports of a VM. Call it for every recorded VM before any new VM gets a port. */
  promisePorts(vmId: string): Promise<void>;
  /**
   * Finds a recorded running VM again: its ports listen before its channel exists, and connections wait for it.
   * A VM that cannot be attached is never killed.
   */
  adopt(vmId: string): Promise<Adoption>;
  /** Closes ports and detaches from every guest; the VMs keep running. Do not use this object afterwards. */
  detachAll(): Promise<void>;
  /** Stops the guest's CPUs, unless the signal was aborted; its channel stays open. @throws as `VmDriver.pause` */
  pause(vmId: string, signal?: AbortSignal): Promise<void>;
  /** Resumes a paused VM and sets its clock; a running VM keeps running. @throws as `VmDriver.resume` */
  resume(
    vmId: string,
    options: { wallClockMs: () => number; deadlineMs: number; signal?: AbortSignal },
  ): Promise<StartedVm>;
  /** Whether this process is making, starting, changing or releasing the VM. */
  isBusy(vmId: string): boolean;
  /** Whether this process fully manages the VM: its channel is open, its policy and its ports are in force. */
  isAttached(vmId: string): boolean;
  /** Bytes on connections that the guest has opened, of both directions, since this process knows the VM. */
  egressBytes(vmId: string): number;
  /** Workload guests from the making of their disks until their agent answers; guests of the pool do not count. */
  readonly starting: number;
  readonly connections: number;
  /** Host ports in use or promised. */
  readonly openPorts: number;
}

/** @returns the VMs of a host; call `adopt` for each recorded VM before anything else uses it. */
export function createVmHost(options: VmHostOptions): HostVms {
  return new DriverVmHost(options);
}

class DriverVmHost implements HostVms {
  readonly hostId: string;
  private readonly options: VmHostOptions;
  private readonly channels: VmChannels;
  private readonly egress: EgressPolicies;
  private readonly vmPorts: VmPorts;
  private readonly leaving: TakeAwayPorts;
  /** Taken before every other lock of a VM. For the others see docs/architecture.md, "Lock order". */
  private readonly lock = createKeyedLock();
  /** Operations that a release aborts. */
  private readonly running = new Map<string, Set<AbortController>>();
  /** Number of releases of a VM that wait or run. */
  private readonly releasing = new Map<string, number>();
  /** VMs whose policy and ports are in force: started here, or adopted. */
  private readonly open = new Set<string>();
  /** VMs whose guests this process has configured. */
  private readonly configured = new Set<string>();
  private readonly startingVms = new Set<string>();
  private readonly meter: EgressMeter = createEgressMeter();
  /** For each VM that boots cold: the kind of guest whose template it could have used. */
  private readonly wanted = new Map<string, GuestKind>();

  constructor(options: VmHostOptions) {
    this.options = options;
    this.hostId = options.hostId;
    this.egress = createEgressPolicies((vmId) => options.records.directory(vmId));
    this.channels = createVmChannels({
      driver: options.driver,
      reattach: options.reattach,
      logger: options.logger,
      onAttached: (vmId, channel) => channel.serveEgress((request) => this.decideEgress(vmId, request)),
    });
    this.vmPorts = createVmPorts({
      ...options.vmPorts,
      records: options.records,
      logger: options.logger,
      connect: async (vmId, guestPort) => (await this.channels.get(vmId)).connectTcp(guestPort),
    });
    const { driver, provisioner, workspaces, records, logger } = options;
    const { egress, vmPorts, channels } = this;
    this.leaving = { driver, provisioner, workspaces, records, logger, egress, vmPorts, channels };
  }

  get starting(): number {
    return this.startingVms.size;
  }

  get connections(): number {
    return this.vmPorts.connections;
  }

  get openPorts(): number {
    return this.vmPorts.ports().size;
  }

  provision(request: ProvisionRequest): Promise<Provisioned> {
    const { vmId } = request;
    // On a second call it may already run.
    if (request.owner.role !== 'pool' && !this.open.has(vmId)) this.startingVms.add(vmId);
    const made: Promise<Provisioned> = this.operation(vmId, request.signal, async (signal) => {
      const begun = performance.now();
      if (request.cold !== true && (await this.options.claimPooled?.({ ...request, signal }))) {
        return { provisioner: 'pool', provisionMs: performance.now() - begun, start: 'pool' };
      }
      const provisioned = await provisionVm(this.options, { ...request, signal });
      // The pool makes its templates itself, and starts its guests through the driver.
      if (provisioned.start === 'cold' && request.owner.role !== 'pool') {
        const { imageDigest, resources, owner } = request;
        this.wanted.set(vmId, guestKindOf({ imageDigest, resources, projectId: owner.projectId }));
      }
      return provisioned;
    });
    // A provisioned VM is started next; until then it counts as starting.
    made.catch(() => this.startingVms.delete(vmId));
    return made;
  }

  boot(request: {
    vmId: string;
    hostname: string;
    deadlineMs: number;
    signal?: AbortSignal;
  }): Promise<{ pid: number; bootMs: number; start: VmStart }> {
    const { vmId, hostname } = request;
    const begun = performance.now();
    return this.operation(vmId, request.signal, async (signal) => {
      const record = await this.options.records.read(vmId);
      const start = record === undefined ? 'cold' : recordedStart(record);
      const found = await this.foundRunning(vmId);
      if (found !== undefined) return { pid: found, bootMs: performance.now() - begun, start };
      const deadlineMs = start === 'cold' ? request.deadlineMs : Math.min(request.deadlineMs, this.options.cloneMs);
      const options = { identity: freshIdentity(hostname), deadlineMs, signal };
      const started = await this.channels
        .open(vmId, (agent) => this.started(vmId, start, { ...options, agent }))
        .catch((error: unknown) => this.failed(vmId, start, error));
      this.open.add(vmId);
      this.configured.add(vmId);
      const bootMs = performance.now() - begun;
      this.options.onBooted?.(bootMs, start, vmId);
      const wanted = this.wanted.get(vmId);
      this.wanted.delete(vmId);
      if (wanted !== undefined) this.options.templates?.want(wanted);
      return { pid: started.pid, bootMs, start };
    }).finally(() => this.startingVms.delete(vmId));
  }

  /** A pooled VM is paused: after its resume, the start only gives it its identity. */
  private async started(vmId: string, start: VmStart, options: Parameters<VmDriver['start']>[1]): Promise<StartedVm> {
    const { driver } = this.options;
    if (start !== 'pool') return driver.start(vmId, options);
    const { agent } = await driver.resume(vmId, { ...options, wallClockMs: Date.now });
    return driver.start(vmId, { ...options, agent });
  }

  /** The next boot, under another name, is cold; the template store decides whether others are still cloned from it. */
  private async failed(vmId: string, start: VmStart, error: unknown): Promise<never> {
    if (isKilnError(error, 'TEMPLATE_CORRUPT', 'TEMPLATE_MISMATCH')) {
      const { templateId } = error.details;
      if (typeof templateId === 'string') await this.options.templates?.reportFailure(templateId, error);
    } else if (start === 'pool' && isKilnError(error) && error.code !== 'CANCELLED') {
      // The pooled VM was good before: its failure says nothing about the workload that got it.
      const message = `VM ${vmId}, which stood ready, does not go on: ${error.message}`;
      throw new KilnError('TEMPLATE_CORRUPT', message, { vmId, was: error.code }, error);
    }
    throw error;
  }

  agent(vmId: string): Promise<AgentChannel> {
    return this.channels.get(vmId);
  }

  pause(vmId: string, signal?: AbortSignal): Promise<void> {
    return this.operation(vmId, signal, () => this.options.driver.pause(vmId));
  }

  resume(vmId: string, options: Parameters<HostVms['resume']>[1]): Promise<StartedVm> {
    return this.channels.open(vmId, (agent) => this.options.driver.resume(vmId, { ...options, agent }));
  }

  setEgress(vmId: string, policy: EgressPolicy, signal?: AbortSignal): Promise<void> {
    return this.operation(vmId, signal, async () => {
      if ((await this.options.records.read(vmId)) === undefined) throw noSuchVm(vmId);
      await this.egress.set(vmId, policy);
    });
  }

  openPort(request: { vmId: string; guestPort: number; hostPort?: number }): Promise<{ port: number; url: string }> {
    return this.operation(request.vmId, undefined, async () => {
      const port = await this.vmPorts.open(request.vmId, request.guestPort, request.hostPort);
      return { port, url: `http://${this.options.vmPorts.urlHost}:${port}` };
    });
  }

  async assertOwner(vmId: string, caller: Parameters<VmHost['assertOwner']>[1]): Promise<void> {
    const record = await this.options.records.read(vmId);
    if (record !== undefined) assertOwnedBy(record, caller);
  }

  async releaseOlder(owner: VmOwner): Promise<readonly VmOwner[]> {
    const released: VmOwner[] = [];
    for (const vmId of await this.options.driver.list()) {
      // A damaged record proves nothing.
      const record = await this.options.records.read(vmId).catch(() => undefined);
      if (record === undefined || !isOlder(record.owner, owner)) continue;
      this.options.logger.warn({ vmId, workflowId: owner.workflowId }, 'a VM of an earlier placement is released');
      await this.release(vmId, { graceMs: 0 });
      released.push(record.owner);
    }
    return released;
  }

  status(vmId: string): Promise<VmStatus> {
    return this.options.driver.status(vmId);
  }

  waitExit(vmId: string, options?: WaitExitOptions): Promise<VmExit> {
    return this.options.driver.waitExit(vmId, options);
  }

  async release(vmId: string, options: { graceMs: number }): Promise<void> {
    const reason = new KilnError('CANCELLED', `The VM ${vmId} is being released.`);
    for (const operation of this.running.get(vmId) ?? []) operation.abort(reason);
    this.releasing.set(vmId, (this.releasing.get(vmId) ?? 0) + 1);
    try {
      await this.lock.run(vmId, async () => {
        this.forget(vmId);
        await takeAway(this.leaving, vmId, options.graceMs);
        this.options.onReleased?.(vmId);
      });
    } finally {
      const others = (this.releasing.get(vmId) ?? 1) - 1;
      if (others > 0) this.releasing.set(vmId, others);
      else this.releasing.delete(vmId);
    }
  }

  private forget(vmId: string): void {
    this.open.delete(vmId);
    this.configured.delete(vmId);
    this.startingVms.delete(vmId);
    this.meter.forget(vmId);
    this.wanted.delete(vmId);
  }

  egressBytes(vmId: string): number {
    return this.meter.bytesOf(vmId);
  }

  promisePorts(vmId: string): Promise<void> {
    return this.vmPorts.promise(vmId);
  }

  async adopt(vmId: string): Promise<Adoption> {
    try {
      // Not during a release, which would find the ports closed and leave them open. The wait for the guest is
      // outside the lock: a guest that does not answer must not delay a release.
      const { state } = await this.lock.run(vmId, () => this.reopen(vmId));
      if (state !== 'running' && state !== 'paused') return { vmId, adopted: false, reason: `it is ${state}` };
      // A paused guest does not answer: the caller that resumes it attaches to it.
      if (state === 'running') await this.channels.get(vmId);
      return { vmId, adopted: true };
    } catch (error) {
      const reason = messageOf(error);
      this.options.logger.warn({ vmId, reason }, 'a VM could not be adopted; it is left as it is');
      return { vmId, adopted: false, reason };
    }
  }

  /** Puts the recorded policy and ports of a running VM in force. @returns its status */
  private async reopen(vmId: string): Promise<VmStatus> {
    const status = await this.options.driver.status(vmId);
    if (status.state === 'running' || status.state === 'paused') {
      // Policy first: the guest may open connections as soon as its channel is open.
      await this.egress.restore(vmId);
      await this.vmPorts.restore(vmId);
      this.open.add(vmId);
    }
    return status;
  }

  async detachAll(): Promise<void> {
    await this.vmPorts.closeAll();
    await this.channels.detachAll();
  }

  isBusy(vmId: string): boolean {
    return this.running.has(vmId) || this.releasing.has(vmId);
  }

  isAttached(vmId: string): boolean {
    // A caller may have attached the channel of a VM whose adoption failed.
    return this.open.has(vmId) && this.channels.live(vmId) !== undefined;
  }

  /** An adopted VM may lack its identity: it gets one, perhaps a second time, before anything runs in it. */
  private async foundRunning(vmId: string): Promise<number | undefined> {
    if (this.channels.live(vmId) === undefined || !this.configured.has(vmId)) return undefined;
    const status = await this.options.driver.status(vmId);
    return status.state === 'running' || status.state === 'paused' ? status.pid : undefined;
  }

  private async decideEgress(vmId: string, request: { name: string; port: number }): Promise<EgressVerdict> {
    const mayAct = this.options.mayAct?.(vmId) ?? true;
    const verdict: EgressVerdict = mayAct
      ? await this.options.dialEgress(this.egress.of(vmId), request)
      : { allow: false, reason: 'its session may be on another host by now' };
    this.options.onEgress?.(vmId, request, verdict);
    return this.open.has(vmId) ? this.meter.metered(vmId, verdict) : verdict;
  }

  /** One at a time per VM; the caller or a release can abort it. */
  private operation<T>(
    vmId: string,
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const own = new AbortController();
    const all = this.running.get(vmId) ?? new Set();
    this.running.set(vmId, all.add(own));
    return this.lock
      .run(vmId, async () => {
        const either = eitherSignal(own.signal, signal);
        either.throwIfAborted();
        return await work(either);
      })
      .finally(() => {
        all.delete(own);
        if (all.size === 0) this.running.delete(vmId);
      });
  }
}

function freshIdentity(hostname: string): GuestIdentity {
  return {
    hostname,
    seedHex: randomBytes(32).toString('hex'),
    machineId: randomBytes(16).toString('hex'),
    wallClockMs: Date.now(),
  };
}

function noSuchVm(vmId: string): KilnError {
  return new KilnError('NOT_FOUND', `There is no VM ${vmId} on this host.`, { vmId });
}
