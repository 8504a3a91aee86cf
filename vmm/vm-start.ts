import { rm } from 'node:fs/promises';
import { abortable, eitherSignal, inTime, msUntil } from '../concurrency/deadline.ts';
import type { InstanceRecord, VmProcess } from '../contracts/host/instance-record.ts';
import { isFailureCode, isKilnError, KilnError } from '../domain/failures.ts';
import type { GuestIdentity } from '../domain/vm.ts';
import { isAlive, waitGone } from '../linux/process-identity.ts';
import type { AgentChannel } from '../ports/guest-agent.ts';
import type { StartedVm } from '../ports/vm-driver.ts';
import { connectAgent } from './agent/connect-agent.ts';
import { type DriverContext, processesOf, readTail, recordedPaths } from './driver-context.ts';
import { launchInGroup } from './limits/launch-in-group.ts';
import { adoptUnrecorded, exitFailure, plainExit, recordProcess, rememberEnd, settleExit } from './vm-exit.ts';
import { type VmPaths, vmPaths } from './vm-paths.ts';
import { assertRunnable, findVmProcesses, killVmProcesses } from './vm-process.ts';
import { makeRuntimeDirectory, spawnAs, takeBackRuntimeDirectory, type VmLaunch } from './vm-user.ts';

export interface StartRequest {
  /** Absent: the guest gets none now, and must get one before any user code runs. */
  readonly identity?: GuestIdentity;
  readonly deadlineMs: number;
  /** The caller's channel of a VM that already runs. */
  readonly agent?: AgentChannel | undefined;
  readonly signal?: AbortSignal;
}

/** One boot of a VM, from its record to a configured agent; a failure leaves no process behind. */
export function startVm(context: DriverContext, vmId: string, request: StartRequest): Promise<StartedVm> {
  return context.operations.run(vmId, async () => {
    const stopped = new AbortController();
    context.starts.set(vmId, stopped);
    const signal = eitherSignal(stopped.signal, request.signal);
    try {
      return await boot(context, vmId, { ...request, signal });
    } finally {
      context.starts.delete(vmId);
    }
  });
}

async function boot(
  context: DriverContext,
  vmId: string,
  request: StartRequest & { signal: AbortSignal },
): Promise<StartedVm> {
  const deadline = performance.now() + request.deadlineMs;
  const left = () => msUntil(deadline);
  const record = await startable(context, vmId);
  let recorded = Promise.resolve();
  let agent: AgentChannel | undefined;
  try {
    if (request.signal.aborted) throw cancelled(vmId);
    let { process } = record;
    if (process === undefined) ({ process, recorded } = await launch(context, record, request.signal));
    const isNew = record.process === undefined;
    const options = { deadlineMs: left(), agent: request.agent, signal: request.signal, recorded, isNew };
    agent = await firstAnswer(context, { ...record, process }, options);
    if (request.identity !== undefined) {
      const told = { deadlineMs: left(), signal: request.signal };
      await configure(agent, request.identity, vmId, told).catch((error: unknown) =>
        lostOrGone(context, { vmId, process }, error, told),
      );
    }
    if (request.signal.aborted) throw cancelled(vmId);
    return { vmId, pid: process.pid, agent };
  } catch (error) {
    // The process is ended through its record, so wait until it is recorded.
    await recorded.catch(() => undefined);
    const failure = await asStartFailure(context, record, error, { ...request, hasAnswered: agent !== undefined });
    if (agent !== request.agent) await agent?.detach().catch(() => undefined);
    throw await endFailedStart(context, record, failure);
  }
}

/** The channel of a guest that boots or is cloned from a template; for a clone, its VMM is restored meanwhile. */
async function firstAnswer(
  context: DriverContext,
  record: InstanceRecord & { process: VmProcess },
  options: LinkOptions & { signal: AbortSignal; isNew: boolean },
): Promise<AgentChannel> {
  const { backend } = context;
  if (record.template === undefined || backend.restore === undefined) return linkAgent(context, record, options);
  const failed = new AbortController();
  const signal = eitherSignal(options.signal, failed.signal);
  const restored = backend.restore(record, pathsOf(context, record), { ...options, signal });
  const linked = linkAgent(context, record, { ...options, signal, isNewClone: options.isNew });
  try {
    const [agent] = await Promise.all([linked, restored]);
    return agent;
  } catch (error) {
    failed.abort();
    await Promise.allSettled([linked, restored]);
    // The guest may have answered although its VMM was not completely restored.
    if (options.agent === undefined) await linked.then((agent) => agent.detach()).catch(() => undefined);
    throw error;
  }
}

/** @throws NOT_FOUND without a record; the failure that ended the VM where it was started and has ended */
export async function startable(context: DriverContext, vmId: string): Promise<InstanceRecord> {
  const record = await readRecord(context, vmId);
  const { exit, process } = record;
  if (exit?.failure !== undefined && isFailureCode(exit.failure.code)) {
    throw new KilnError(exit.failure.code, exit.failure.message, { vmId, exit: plainExit(exit) });
  }
  if (exit !== undefined) throw exitFailure(vmId, plainExit(exit));
  if (process !== undefined && !(await isAlive(process))) throw exitFailure(vmId, await settleExit(context, vmId));
  return record;
}

async function readRecord(context: DriverContext, vmId: string): Promise<InstanceRecord> {
  const record = await context.records.read(vmId);
  if (record === undefined) {
    throw new KilnError('NOT_FOUND', `There is no VM ${vmId} on this host; it has to be prepared first`, { vmId });
  }
  return adoptUnrecorded(context, record);
}

interface Launched {
  readonly process: VmProcess;
  /** Resolves once the process is recorded; the guest need not wait for that. @throws NOT_FOUND */
  readonly recorded: Promise<void>;
}

async function launch(context: DriverContext, record: InstanceRecord, signal: AbortSignal): Promise<Launched> {
  const { vmId } = record;
  const paths = pathsOf(context, record);
  // Several processes without a record, and no single leader: nothing to adopt, so they must end before the start.
  const isOurs = processesOf(context, record);
  const leftovers = context.unspawned.has(vmId) ? [] : await findVmProcesses(isOurs);
  if (leftovers.length > 0) await killVmProcesses(isOurs, undefined, killTimings(context));
  const command = await confinedCommand(context, record, signal);
  await makeRuntimeDirectory(paths.runtimeDirectory);
  for (const socket of Object.values(record.sockets)) await rm(socket, { force: true });
  context.unspawned.delete(vmId);
  const { process, end } = await spawnAs(context.backend.confinesItself ? undefined : record.uid, command, paths);
  rememberEnd(context, process, end);
  const recorded = recordProcess(context, vmId, process).then((found) => {
    if (found === undefined)
      throw new KilnError('NOT_FOUND', `VM ${vmId} was destroyed while it was started`, { vmId });
  });
  recorded.catch(() => undefined);
  context.options.log.info({ vmId, pid: process.pid, driver: context.backend.kind }, 'VM process started');
  return { process, recorded };
}

/** How the process is started so that it stays within the VM's size. */
async function confinedCommand(context: DriverContext, record: InstanceRecord, signal: AbortSignal): Promise<VmLaunch> {
  const { backend, limits } = context;
  const paths = pathsOf(context, record);
  const groups = backend.confinesItself ? await limits.make(record, paths.directory) : [];
  const command = await backend.command(record, paths, { signal, groups });
  await assertRunnable(command.argv[0] ?? '');
  return backend.confinesItself ? launchInGroup(command, []) : limits.launch(record, command, paths.directory);
}

interface LinkOptions {
  readonly deadlineMs: number;
  /** The channel that the caller has: an agent serves one at a time. */
  readonly agent?: AgentChannel | undefined;
  readonly signal?: AbortSignal;
  readonly recorded?: Promise<void>;
  /** Whether the guest was cloned from a template and nobody has spoken to it since. */
  readonly isNewClone?: boolean;
}

/**
 * The VM's channel: the caller's, or a new one, which then belongs to the caller. It returns no channel and records
 * no end before the VM's process is recorded.
 * @throws AGENT_TIMEOUT; VMM_EXITED, GUEST_CRASHED where the process ends first; CANCELLED
 */
export async function linkAgent(
  context: DriverContext,
  record: InstanceRecord & { process: VmProcess },
  options: LinkOptions,
): Promise<AgentChannel> {
  const { vmId, process } = record;
  if (options.agent !== undefined) return options.agent;
  const over = new AbortController();
  const signal = eitherSignal(over.signal, options.signal);
  const watch = { pollMs: context.timings.pollMs, timeoutMs: Number.POSITIVE_INFINITY, signal };
  const gone = waitGone(process, watch).then(() => undefined);
  const connected = connectAgent({
    connect: context.backend.dialAgent?.bind(context.backend, record) ?? record.sockets.agent,
    deadlineMs: options.deadlineMs,
    requestMs: context.timings.requestMs,
    // The VMM of a clone listens after some 30 ms, and its guest answers 30 ms later.
    ...(options.isNewClone === true ? { retryMs: 2, betweenFrames: true } : {}),
    signal,
  });
  try {
    const channel = await Promise.race([connected, gone]);
    await options.recorded;
    if (channel === undefined) throw exitFailure(vmId, await settleExit(context, vmId));
    if (context.backend.confinesItself !== true) await takeBackRuntimeDirectory(record);
    return channel;
  } catch (error) {
    // The connection may still succeed late: nobody would own that channel.
    void connected.then((channel) => channel.detach()).catch(() => undefined);
    throw error;
  } finally {
    over.abort();
    await gone.catch(() => undefined);
  }
}

async function configure(
  agent: AgentChannel,
  identity: GuestIdentity,
  vmId: string,
  { deadlineMs, signal }: { deadlineMs: number; signal: AbortSignal },
): Promise<void> {
  const late = () =>
    new KilnError('AGENT_TIMEOUT', `The agent of VM ${vmId} did not answer "configure" in time`, { vmId });
  await abortable(inTime(agent.configure(identity), deadlineMs, late), signal, () => cancelled(vmId));
}

/** A channel breaks a moment before its VMM is gone: then this reports the end of the VMM. */
async function lostOrGone(
  context: DriverContext,
  { vmId, process }: { vmId: string; process: VmProcess },
  error: unknown,
  { deadlineMs, signal }: { deadlineMs: number; signal: AbortSignal },
): Promise<never> {
  if (!isKilnError(error, 'AGENT_LOST')) throw error;
  const { pollMs, quitMs } = context.timings;
  const isGone = await waitGone(process, { pollMs, timeoutMs: Math.min(deadlineMs, quitMs), signal });
  throw isGone ? exitFailure(vmId, await settleExit(context, vmId)) : error;
}

/** The failure as a code of the table, with the last output of the guest and the VMM. */
async function asStartFailure(
  context: DriverContext,
  record: InstanceRecord,
  error: unknown,
  request: StartRequest & { signal: AbortSignal; hasAnswered: boolean },
): Promise<KilnError> {
  const { vmId } = record;
  if (request.signal.aborted) return cancelled(vmId, error);
  if (record.template !== undefined && isGuestFailure(error)) return templateFailure(context, record, error);
  if (isKilnError(error, 'AGENT_TIMEOUT') && !request.hasAnswered) {
    const paths = pathsOf(context, record);
    const said = [await readTail(paths.consoleLog, 2048), await readTail(paths.vmmLog, 2048)]
      .filter(Boolean)
      .join('\n');
    const message = `VM ${vmId} did not come up within ${request.deadlineMs} ms`;
    return new KilnError('BOOT_TIMEOUT', said ? `${message}; it said last: ${said.slice(-600).trim()}` : message, {
      vmId,
      deadlineMs: request.deadlineMs,
      tail: said,
    });
  }
  if (error instanceof KilnError) return error;
  return new KilnError('INTERNAL', `VM ${vmId} could not be started: ${String(error)}`, { vmId }, error);
}

/** Failures of a clone that a cold boot may avoid. */
function isGuestFailure(error: unknown): error is KilnError {
  return (
    isKilnError(error) &&
    [
      'BOOT_TIMEOUT',
      'TIMED_OUT',
      'VMM_EXITED',
      'GUEST_CRASHED',
      'AGENT_TIMEOUT',
      'AGENT_LOST',
      'AGENT_PROTOCOL',
      'TEMPLATE_CORRUPT',
    ].includes(error.code)
  );
}

async function templateFailure(context: DriverContext, record: InstanceRecord, error: KilnError): Promise<KilnError> {
  const { vmId, template } = record;
  const said = (await readTail(pathsOf(context, record).vmmLog, 2048)).slice(-600).trim();
  const message = `VM ${vmId} does not go on from the template ${template?.templateId}: ${error.message}`;
  const details = { vmId, templateId: template?.templateId, was: error.code };
  return new KilnError('TEMPLATE_CORRUPT', said ? `${message}; it said last: ${said}` : message, details, error);
}

/** Kills what the failed start left, records the failure, and returns it. */
async function endFailedStart(context: DriverContext, record: InstanceRecord, failure: KilnError): Promise<KilnError> {
  const { vmId } = record;
  const now = await context.records.read(vmId);
  await killVmProcesses(processesOf(context, record), now?.process ?? record.process, killTimings(context));
  await settleExit(context, vmId, 'killed', failure);
  context.options.log.warn({ vmId, code: failure.code }, `VM did not start: ${failure.message}`);
  return failure;
}

/** Finds a running VM again. Never kills it. @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT, CANCELLED */
export function attachVm(
  context: DriverContext,
  vmId: string,
  options: { deadlineMs: number; signal?: AbortSignal },
): Promise<StartedVm> {
  return context.operations.run(vmId, async () => {
    const record = await startable(context, vmId);
    const { process } = record;
    if (process === undefined) throw new KilnError('NOT_FOUND', `VM ${vmId} has not been started`, { vmId });
    try {
      const agent = await linkAgent(context, { ...record, process }, options);
      return { vmId, pid: process.pid, agent };
    } catch (error) {
      if (options.signal?.aborted) throw cancelled(vmId, error);
      throw error;
    }
  });
}

function cancelled(vmId: string, cause?: unknown): KilnError {
  return new KilnError('CANCELLED', `The start of VM ${vmId} was given up`, { vmId }, cause);
}

export function pathsOf(context: DriverContext, record: InstanceRecord): VmPaths {
  return recordedPaths(vmPaths(context.options, record.vmId), record);
}

export function killTimings(context: DriverContext): { pollMs: number; timeoutMs: number } {
  return { pollMs: context.timings.pollMs, timeoutMs: context.timings.killMs };
}
