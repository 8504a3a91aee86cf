/**
 * The service processes in this host's VMs. Facts about each are stored beside its VM's record, so that after a restart
 * its output continues into the log by itself.
 */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { abortable, within } from '../../concurrency/deadline.ts';
import { isKilnError, KilnError, messageOf } from '../../domain/failures.ts';
import { SERVICE_EXEC_ID } from '../../domain/names.ts';
import { workloadRef } from '../../domain/owner.ts';
import { STAGES, type Stage } from '../../domain/workload/stages.ts';
import { readStateFile, writeStateFile } from '../../linux/state-file.ts';
import type { ExecExit, ExecHandle, ExecRequest } from '../../ports/guest-agent.ts';
import type { VmHost } from '../../ports/host.ts';
import type { GuestServices } from '../../ports/services.ts';
import type { HostLogger } from '../host-logger.ts';
import type { HostLogs } from '../logs/host-logs.ts';
import { pumpServiceOutput, type ServiceOutputOptions } from '../logs/output-pump.ts';

export interface GuestServicesOptions extends ServiceOutputOptions {
  readonly vms: Pick<VmHost, 'agent'>;
  readonly logs: Pick<HostLogs, 'open' | 'serviceOffset' | 'saveServiceOffset'>;
  readonly vmDirectory: (vmId: string) => string;
  /** Pause after a lost channel before the next attach to the service, ms. */
  readonly reattachPauseMs: number;
  /** Output that a guest keeps until it is safe here; older output is lost. Covers a restart of the host worker. */
  readonly guestRingBytes: number;
  readonly logger: HostLogger;
}

export interface HostServices extends GuestServices {
  /** Continues with the output of a service that an earlier process started; ignores a VM without one. */
  resume(vmId: string): Promise<void>;
  /** Whether output is being read now. */
  isPumping(vmId: string): boolean;
  /** Resolves when no pump works on the VM any more: after its channel was closed. */
  settled(vmId: string): Promise<void>;
}

const serviceSchema = z.strictObject({
  workloadId: z.string().min(1).max(64),
  epoch: z.int().min(0),
  stage: z.enum(STAGES),
});
type ServiceRecord = z.infer<typeof serviceSchema>;

/** Output is read as long as the channel can be opened again; `done` gives the end of the service. */
interface Pump {
  stage: Stage;
  /** The process as the agent knows it; a new promise after every lost channel. */
  handle: Promise<ExecHandle>;
  readonly tail: string[];
  readonly done: Promise<ExecExit>;
}

export function createGuestServices(options: GuestServicesOptions): HostServices {
  return new Services(options);
}

class Services implements HostServices {
  private readonly options: GuestServicesOptions;
  private readonly pumps = new Map<string, Pump>();

  constructor(options: GuestServicesOptions) {
    this.options = options;
  }

  async start(request: {
    vmId: string;
    workloadId: string;
    epoch: number;
    exec: ExecRequest;
  }): Promise<{ pid: number }> {
    const { vmId, workloadId, epoch } = request;
    const agent = await this.options.vms.agent(vmId);
    const known = await this.record(vmId);
    const record = known ?? { workloadId, epoch, stage: 'deploy' as const };
    // Written first: a process that this host does not know would have no log.
    if (known === undefined) await writeStateFile(this.file(vmId), record);
    const running = this.pumps.get(vmId);
    if (running !== undefined) return { pid: (await running.handle).pid };
    const fromOffset = await this.options.logs.serviceOffset(workloadRef(workloadId, epoch));
    const bufferBytes = this.options.guestRingBytes;
    const exec: ExecRequest = { ...request.exec, execId: SERVICE_EXEC_ID, output: 'ring', bufferBytes };
    const handle = await agent.exec(exec, { fromOffset, manualAck: true });
    this.begin(vmId, record, () => Promise.resolve(handle));
    return { pid: handle.pid };
  }

  async setStage(vmId: string, stage: Stage): Promise<void> {
    const record = await this.mustRecord(vmId);
    await writeStateFile(this.file(vmId), { ...record, stage });
    const pump = this.pumps.get(vmId);
    if (pump !== undefined) pump.stage = stage;
  }

  async waitExit(vmId: string, signal?: AbortSignal): Promise<{ exit: ExecExit; tail: string }> {
    const pump = await this.pump(vmId);
    const exit = await abortable(pump.done, signal);
    return { exit, tail: pump.tail.join('\n') };
  }

  async stop(vmId: string, options: { graceMs: number }): Promise<ExecExit> {
    const pump = await this.pump(vmId);
    await signalTo(pump, 'SIGTERM');
    const gentle = await within(pump.done, options.graceMs);
    if (gentle !== undefined) return gentle;
    await signalTo(pump, 'SIGKILL');
    return pump.done;
  }

  async resume(vmId: string): Promise<void> {
    if ((await this.record(vmId)) === undefined) return;
    await this.pump(vmId);
  }

  isPumping(vmId: string): boolean {
    return this.pumps.has(vmId);
  }

  async settled(vmId: string): Promise<void> {
    await this.pumps.get(vmId)?.done.catch(() => undefined);
  }

  private async pump(vmId: string): Promise<Pump> {
    const running = this.pumps.get(vmId);
    if (running !== undefined) return running;
    const record = await this.mustRecord(vmId);
    return this.begin(vmId, record, () => this.attach(vmId, record));
  }

  private begin(vmId: string, record: ServiceRecord, find: () => Promise<ExecHandle>): Pump {
    const found = this.pumps.get(vmId);
    if (found !== undefined) return found;
    const ended = Promise.withResolvers<ExecExit>();
    const pump: Pump = { stage: record.stage, handle: quiet(find()), tail: [], done: quiet(ended.promise) };
    this.pumps.set(vmId, pump);
    this.run(vmId, record, pump)
      .then(ended.resolve, (error: unknown) => {
        const reason = messageOf(error);
        this.options.logger.warn({ vmId, reason }, 'the output of a service is not read any more');
        ended.reject(error);
      })
      // The next caller starts again at the safe offset; the agent remembers the exit.
      .finally(() => this.pumps.delete(vmId));
    return pump;
  }

  private async run(vmId: string, record: ServiceRecord, pump: Pump): Promise<ExecExit> {
    const { workloadId, epoch } = record;
    const { logs } = this.options;
    const log = workloadRef(workloadId, epoch);
    const writer = await logs.open(log);
    const target = { log, logs, writer, stage: () => pump.stage };
    for (;;) {
      const next = Promise.withResolvers<ExecHandle>();
      quiet(next.promise);
      try {
        const handle = await pump.handle;
        const exit = quiet(handle.exit);
        // Replaced at once: a signal sent while the log still writes earlier output must wait for the next channel.
        exit.catch((error: unknown) => {
          if (isKilnError(error, 'AGENT_LOST')) pump.handle = next.promise;
        });
        await pumpServiceOutput(handle, target, pump.tail, this.options);
        return await exit;
      } catch (error) {
        if (!isKilnError(error, 'AGENT_LOST')) {
          next.reject(error);
          throw error;
        }
      }
      pump.handle = next.promise;
      await sleep(this.options.reattachPauseMs);
      this.attach(vmId, record).then(next.resolve, next.reject);
    }
  }

  private async attach(vmId: string, { workloadId, epoch }: ServiceRecord): Promise<ExecHandle> {
    const agent = await this.options.vms.agent(vmId);
    const fromOffset = await this.options.logs.serviceOffset(workloadRef(workloadId, epoch));
    return agent.attachExec(SERVICE_EXEC_ID, { fromOffset, manualAck: true });
  }

  private record(vmId: string): Promise<ServiceRecord | undefined> {
    return readStateFile(this.file(vmId), serviceSchema);
  }

  private async mustRecord(vmId: string): Promise<ServiceRecord> {
    const record = await this.record(vmId);
    if (record !== undefined) return record;
    throw new KilnError('NOT_FOUND', `No service was started in VM ${vmId} on this host.`, { vmId });
  }

  private file(vmId: string): string {
    return join(this.options.vmDirectory(vmId), 'service.json');
  }
}

/** A process that has already ended needs no signal; other failures are for the caller to retry. */
async function signalTo(pump: Pump, name: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  try {
    await (await pump.handle).signal(name);
  } catch (error) {
    if (isKilnError(error, 'NOT_FOUND', 'CONFLICT')) return;
    throw error;
  }
}

/** The same promise; a failure before anybody waits for it causes no unhandled rejection. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
