/** The host ports of this host's VMs: recorded with the VM, so that the same port answers after a restart. */
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError, messageOf } from '../../domain/failures.ts';
import { assertHostPort } from '../../domain/host-ports.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostLogger } from '../host-logger.ts';
import {
  type GuestConnector,
  listenOn,
  listenOnFree,
  type PortListener,
  type PortListenerOptions,
} from './listener.ts';

export interface VmIngressOptions extends PortListenerOptions {
  readonly records: Pick<InstanceStore, 'read' | 'update'>;
  /** Opens a connection to a port of a guest. */
  readonly connect: (vmId: string, guestPort: number) => ReturnType<GuestConnector>;
  /** Pause before a recorded port that is in use is tried again, ms. */
  readonly rebindMs: number;
  readonly logger: HostLogger;
}

export interface VmPorts {
  /** @returns the host port. @throws PORT_IN_USE, PORT_NOT_ALLOWED, NOT_FOUND (no such VM), CONFLICT (has another) */
  open(vmId: string, guestPort: number, hostPort: number | undefined): Promise<number>;
  /** Reserves a VM's recorded ports, whether or not it can be adopted now: no other VM gets one of them. */
  promise(vmId: string): Promise<void>;
  /** Listens again on every recorded port; retries one that is in use until it is free. */
  restore(vmId: string): Promise<void>;
  /** Closes the VM's listeners and connections; its ports are free when this resolves. */
  close(vmId: string): Promise<void>;
  closeAll(): Promise<void>;
  readonly connections: number;
  /** Host ports in use or promised, with their VM. */
  ports(): ReadonlyMap<number, string>;
}

/** @returns listeners of one host; none is open until asked for. */
export function createVmPorts(options: VmIngressOptions): VmPorts {
  return new ListeningVmPorts(options);
}

interface Listening {
  readonly vmId: string;
  readonly guestPort: number;
  listener?: PortListener;
  readonly giveUp: AbortController;
  rebinding?: Promise<void>;
}

class ListeningVmPorts implements VmPorts {
  private readonly options: VmIngressOptions;
  /** By host port; an entry without a listener is a port that is only promised. */
  private readonly promised = new Map<number, Listening>();

  constructor(options: VmIngressOptions) {
    this.options = options;
  }

  get connections(): number {
    return [...this.promised.values()].reduce((sum, { listener }) => sum + (listener?.connections ?? 0), 0);
  }

  ports(): ReadonlyMap<number, string> {
    return new Map([...this.promised].map(([port, { vmId }]) => [port, vmId]));
  }

  async open(vmId: string, guestPort: number, hostPort: number | undefined): Promise<number> {
    const record = await this.options.records.read(vmId);
    if (record === undefined) throw new KilnError('NOT_FOUND', `There is no VM ${vmId} on this host.`, { vmId });
    const known = record.ports.find((port) => port.guestPort === guestPort);
    if (known === undefined) return this.openNew(vmId, guestPort, hostPort);
    if (hostPort !== undefined && hostPort !== known.hostPort) {
      throw new KilnError('CONFLICT', `Port ${guestPort} of ${vmId} is reached at ${known.hostPort} already.`);
    }
    if (this.promised.get(known.hostPort)?.listener === undefined) await this.listen(vmId, guestPort, known.hostPort);
    return known.hostPort;
  }

  async promise(vmId: string): Promise<void> {
    const record = await this.options.records.read(vmId);
    for (const { guestPort, hostPort } of record?.ports ?? []) {
      if (!this.promised.has(hostPort)) this.promised.set(hostPort, entryOf(vmId, guestPort));
    }
  }

  async restore(vmId: string): Promise<void> {
    const record = await this.options.records.read(vmId);
    for (const { guestPort, hostPort } of record?.ports ?? []) {
      const entry = this.promised.get(hostPort);
      if (entry?.vmId === vmId && (entry.listener !== undefined || entry.rebinding !== undefined)) continue;
      try {
        await this.listen(vmId, guestPort, hostPort);
      } catch (error) {
        const reason = messageOf(error);
        this.options.logger.warn({ vmId, hostPort, reason }, 'the port of a VM cannot be opened again yet');
        this.rebindLater(vmId, guestPort, hostPort);
      }
    }
  }

  async close(vmId: string): Promise<void> {
    const ours = [...this.promised].filter(([, entry]) => entry.vmId === vmId);
    for (const [port, entry] of ours) {
      entry.giveUp.abort();
      await entry.rebinding;
      await entry.listener?.close();
      this.promised.delete(port);
    }
  }

  async closeAll(): Promise<void> {
    const vmIds = new Set([...this.promised.values()].map(({ vmId }) => vmId));
    await Promise.all([...vmIds].map((vmId) => this.close(vmId)));
  }

  private async openNew(vmId: string, guestPort: number, hostPort: number | undefined): Promise<number> {
    if (hostPort !== undefined) assertHostPort(hostPort, this.options.ports);
    const listener =
      hostPort === undefined
        ? await listenOnFree(
            `${vmId}:${guestPort}`,
            new Set(this.promised.keys()),
            this.connector(vmId, guestPort),
            this.options,
          )
        : await this.listen(vmId, guestPort, hostPort);
    const { port } = listener;
    this.promised.set(port, { ...entryOf(vmId, guestPort), listener });
    try {
      const written = await this.options.records.update(vmId, (record) => ({
        ...record,
        ports: [...record.ports, { guestPort, hostPort: port }],
      }));
      if (written === undefined) throw new KilnError('NOT_FOUND', `There is no VM ${vmId} on this host.`, { vmId });
      return port;
    } catch (error) {
      // A listener that is not recorded would be lost at the next restart.
      this.promised.delete(port);
      await listener.close();
      throw error;
    }
  }

  private async listen(vmId: string, guestPort: number, hostPort: number): Promise<PortListener> {
    const other = this.promised.get(hostPort);
    if (other !== undefined && other.vmId !== vmId) {
      throw new KilnError('PORT_IN_USE', `Port ${hostPort} of this host belongs to another VM; ask for another one.`, {
        port: hostPort,
      });
    }
    const listener = await listenOn(hostPort, this.connector(vmId, guestPort), this.options);
    const entry = other ?? entryOf(vmId, guestPort);
    entry.listener = listener;
    this.promised.set(hostPort, entry);
    return listener;
  }

  private rebindLater(vmId: string, guestPort: number, hostPort: number): void {
    const entry = this.promised.get(hostPort) ?? entryOf(vmId, guestPort);
    // It belongs to another VM: replacing it would leave a listener that nobody closes.
    if (entry.vmId !== vmId) return;
    this.promised.set(hostPort, entry);
    const { signal } = entry.giveUp;
    const tryAgain = async (): Promise<void> => {
      while (!signal.aborted && entry.listener === undefined) {
        await sleep(this.options.rebindMs, undefined, { signal }).catch(() => undefined);
        if (signal.aborted || entry.listener !== undefined) return;
        await this.listen(vmId, guestPort, hostPort).catch(() => undefined);
      }
    };
    entry.rebinding = tryAgain();
  }

  private connector(vmId: string, guestPort: number): GuestConnector {
    return () => this.options.connect(vmId, guestPort);
  }
}

function entryOf(vmId: string, guestPort: number): Listening {
  return { vmId, guestPort, giveUp: new AbortController() };
}
