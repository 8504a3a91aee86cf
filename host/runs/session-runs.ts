/**
 * Runs of sessions in this host's VMs: each command is started once, whatever dies in between. What happened is kept
 * beside the VM's record (`run.json`), always before the step that relies on it.
 */
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type Changes, createChanges } from '../../concurrency/changes.ts';
import { abortable } from '../../concurrency/deadline.ts';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import { readStateFile, writeStateFile } from '../../linux/state-file.ts';
import type { ExecHandle, ExecOutput } from '../../ports/guest-agent.ts';
import type { FollowedOutput, FollowOutput, RunExit, RunInVm, RunOwner, SessionRuns } from '../../ports/runs.ts';
import { requireFeature } from '../../vmm/agent/features.ts';
import type { HostVms } from '../vms/vm-host.ts';
import { openRunOutput, openToRead, type RunOutput } from './run-output.ts';
import { pumpRunOutput } from './run-output-pump.ts';
import { untilSilent } from './silence.ts';

export interface SessionRunsOptions {
  readonly vms: Pick<HostVms, 'agent' | 'egressBytes'>;
  readonly vmDirectory: (vmId: string) => string;
  /** File of a run's output, in a folder that outlives the VM. */
  readonly outputPath: (run: RunInVm) => string;
  /** Most output of one run that is kept, bytes. */
  readonly maxOutputBytes: number;
  /** Most bytes taken from the guest that a crash of this machine would lose; above this no more are taken. */
  readonly maxUnsafeBytes: number;
  /** Pause after a lost channel before the next attach to the run, ms. */
  readonly reattachPauseMs: number;
  /** How long what a run has left behind may go on after its exit, ms. */
  readonly leftoversMs: number;
  /** Notes whose output will be in the file, before there is any. */
  readonly expectOutput: (run: RunInVm, of: RunOwner) => Promise<void>;
  /** @returns the run that was noted so */
  readonly expected: (run: RunInVm) => Promise<Pick<RunOwner, 'runId'> | undefined>;
  /** Called at the end of a run, however it ends. */
  readonly onEnd: (run: RunInVm) => void;
}

const exitSchema = z.strictObject({
  code: z.int().nullable(),
  signal: z.string().nullable(),
  timedOut: z.boolean(),
  silent: z.boolean(),
  outputBytes: z.int().min(0),
});
const turn = z.int().min(1);
/**
 * `starting`: the process may be there. `started`: it was there, so it is never started again; `silent`: it is being
 * killed for that. `cancelled`: it never
 * starts; where it may have been there before (`mayRun`), each cancel kills it.
 */
const runRecordSchema = z.discriminatedUnion('state', [
  z.strictObject({ state: z.literal('starting'), turn }),
  z.strictObject({ state: z.literal('started'), turn, silent: z.literal(true).exactOptional() }),
  z.strictObject({ state: z.literal('cancelled'), turn, mayRun: z.boolean() }),
  z.strictObject({ state: z.literal('exited'), turn, exit: exitSchema }),
]);
type RunRecord = z.infer<typeof runRecordSchema>;
type RunRequest = Parameters<SessionRuns['run']>[0];

interface ActiveRun {
  readonly turn: number;
  readonly runId: string;
  /** The process as the agent knows it; another one after every lost channel. */
  handle?: ExecHandle;
  readonly output: Promise<RunOutput>;
  readonly done: Promise<RunExit>;
}

export function createSessionRuns(options: SessionRunsOptions): SessionRuns {
  return new VmRuns(options);
}

class VmRuns implements SessionRuns {
  private readonly options: SessionRunsOptions;
  /** Held while `run.json` of a VM is read and written, and while a process is started or killed because of it. */
  private readonly lock = createKeyedLock();
  private readonly active = new Map<string, ActiveRun>();
  /** Told at every step of a run, under the name of its VM. */
  private readonly changes: Changes = createChanges();

  constructor(options: SessionRunsOptions) {
    this.options = options;
  }

  async run(request: RunRequest, signal: AbortSignal): Promise<RunExit> {
    const { done } = await this.lock.run(request.vmId, () => this.join(request));
    return abortable(done, signal);
  }

  cancel({ vmId, turn }: RunInVm): Promise<void> {
    return this.lock.run(vmId, async () => {
      const record = await this.record(vmId);
      if (record !== undefined && record.turn > turn) return;
      // The record is of one run: that of a run that goes on must not be replaced.
      if (record !== undefined && record.turn < turn && !isOver(record)) throw notAt({ vmId, turn }, record);
      const present = record?.turn === turn ? record : undefined;
      if (present?.state === 'exited') return;
      const mayRun = present?.state === 'cancelled' ? present.mayRun : present !== undefined;
      await this.write(vmId, { state: 'cancelled', turn, mayRun });
      if (mayRun) await this.kill(vmId, turn);
    });
  }

  async readOutput(run: RunInVm, after: number, maxBytes: number): Promise<readonly ExecOutput[]> {
    const active = this.active.get(run.vmId);
    const found = active?.turn === run.turn ? await (await active.output).read(after, maxBytes) : undefined;
    if (found !== undefined) return found;
    const record = await this.record(run.vmId);
    const output = await openToRead(this.options.outputPath(run)).catch(undefinedIfMissing);
    try {
      // A run that never started has no file; a VM that is gone has no record.
      if (output === undefined && (record === undefined || record.turn < run.turn)) {
        throw new KilnError('NOT_FOUND', `Run ${run.turn} has not been in VM ${run.vmId}.`);
      }
      return (await output?.read(after, maxBytes)) ?? [];
    } finally {
      await output?.close();
    }
  }

  async followOutput(run: RunInVm, { after, maxBytes, waitMs, signal }: FollowOutput): Promise<FollowedOutput> {
    const late = AbortSignal.any([signal, AbortSignal.timeout(waitMs)]);
    let wasActive = false;
    for (;;) {
      const change = this.changes.next(run.vmId, late);
      change.catch(() => undefined);
      // Before the output is read, so that an end that is seen comes with all of it.
      const isLast = !this.isActive(run) && (wasActive || (await this.isOverOrUnread(run)));
      wasActive ||= this.isActive(run);
      const pieces = await this.readOutput(run, after, maxBytes).catch(noneIfUnknown);
      if (pieces.length > 0 || isLast || late.aborted) {
        return { pieces, isLast: isLast && pieces.length === 0, ...defined({ runId: await this.runIdOf(run) }) };
      }
      await change.catch(() => undefined);
    }
  }

  private async runIdOf(run: RunInVm): Promise<string | undefined> {
    const active = this.active.get(run.vmId);
    return active?.turn === run.turn ? active.runId : (await this.options.expected(run))?.runId;
  }

  /** Also where it was started and nobody reads it: its VM is gone, or whoever goes on with it is still to come. */
  private async isOverOrUnread(run: RunInVm): Promise<boolean> {
    const record = await this.record(run.vmId);
    if (this.isActive(run) || record === undefined) return false;
    return isPast(record, run) || (record.turn === run.turn && record.state === 'started');
  }

  async isOver(run: RunInVm): Promise<boolean> {
    if (this.isActive(run)) return false;
    const record = await this.record(run.vmId);
    return record !== undefined && isPast(record, run);
  }

  private isActive({ vmId, turn }: RunInVm): boolean {
    return this.active.get(vmId)?.turn === turn;
  }

  /** Finds the run or begins it. In an object, since the lock must not be held until the run is done. */
  private async join(request: RunRequest): Promise<{ readonly done: Promise<RunExit> }> {
    const { vmId, turn } = request;
    const running = this.active.get(vmId);
    if (running?.turn === turn) return running;
    const record = await this.record(vmId);
    if (record !== undefined && record.turn !== turn && !(record.turn < turn && isOver(record))) {
      throw notAt(request, record);
    }
    if (record?.turn !== turn) {
      await this.write(vmId, { state: 'starting', turn });
      return this.begin(request, 'start');
    }
    if (record.state === 'cancelled') throw cancelled(request);
    if (record.state === 'exited') return { done: Promise.resolve(record.exit) };
    return this.begin(request, record.state === 'started' ? 'attach' : 'start');
  }

  private begin(request: RunRequest, how: 'start' | 'attach'): ActiveRun {
    const { vmId, turn } = request;
    const output = this.openOutput(request);
    const ended = Promise.withResolvers<RunExit>();
    const active: ActiveRun = { turn, runId: request.runId, output, done: ended.promise };
    // A caller that has left must not leave an unhandled rejection behind; the next one finds what happened.
    for (const promise of [output, ended.promise]) promise.catch(() => undefined);
    this.active.set(vmId, active);
    this.follow(request, how, active)
      // The next run may have begun once the end of this one was on record.
      .finally(() => {
        if (this.active.get(vmId) === active) this.active.delete(vmId);
        this.changes.tell(vmId);
        this.options.onEnd({ vmId, turn });
      })
      .then(ended.resolve, ended.reject);
    return active;
  }

  /** Reads the output to its end, over lost channels. */
  private async follow(request: RunRequest, how: 'start' | 'attach', active: ActiveRun): Promise<RunExit> {
    const output = await active.output;
    const over = new AbortController();
    try {
      active.handle = how === 'start' ? await this.start(request, output) : await this.attach(request, output);
      this.watchSilence(request, active, output, over.signal);
      for (;;) {
        try {
          return await this.toTheEnd(request, active.handle, output);
        } catch (error) {
          if (!isKilnError(error, 'AGENT_LOST')) throw error;
        }
        await sleep(this.options.reattachPauseMs);
        active.handle = await this.attach(request, output);
      }
    } finally {
      over.abort();
      await output.close();
    }
  }

  /** What has begun to be killed for its silence is told so, whatever dies meanwhile. */
  private watchSilence(request: RunRequest, active: ActiveRun, output: RunOutput, signal: AbortSignal): void {
    const { vmId, turn, silentMs } = request;
    const egressBytes = () => this.options.vms.egressBytes(vmId);
    untilSilent({ silentMs, handle: () => active.handle, output, egressBytes, signal })
      .then(() =>
        this.lock.run(vmId, async () => {
          const record = await this.record(vmId);
          if (record?.turn !== turn || record.state !== 'started') return;
          await this.write(vmId, { state: 'started', turn, silent: true });
          await this.kill(vmId, turn);
        }),
      )
      // Aborted at its end; or its channel is lost just now, and the next attach tells its time limit.
      .catch(() => undefined);
  }

  private async toTheEnd(request: RunRequest, handle: ExecHandle, output: RunOutput): Promise<RunExit> {
    const { maxUnsafeBytes } = this.options;
    await pumpRunOutput(handle, output, { maxUnsafeBytes, onTaken: () => this.changes.tell(request.vmId) });
    const { code, signal, timedOut } = await handle.exit;
    await output.finish();
    return this.lock.run(request.vmId, async () => {
      const record = await this.record(request.vmId);
      if (record?.state === 'cancelled') throw cancelled(request);
      const silent = record?.state === 'started' && record.silent === true;
      const exit = { code, signal, timedOut, silent, outputBytes: output.end };
      await this.write(request.vmId, { state: 'exited', turn: request.turn, exit });
      return exit;
    });
  }

  private async start(request: RunRequest, output: RunOutput): Promise<ExecHandle> {
    const { vmId, turn, timeoutMs } = request;
    // Before the lock: both may take long, and a cancel must not wait for them.
    const { argv, env } = await request.command();
    const agent = await this.options.vms.agent(vmId);
    return this.lock.run(vmId, async () => {
      if ((await this.record(vmId))?.state === 'cancelled') throw cancelled(request);
      // Without these a run that hangs would never be noticed, and what it leaves behind would work on beside the next.
      requireFeature(agent.hello, 'exec-usage', 'tell what a run uses');
      const killLeftoversAfterMs = this.options.leftoversMs;
      const exec = { execId: execIdOf(turn), argv, env, timeoutMs, output: 'wait', killLeftoversAfterMs } as const;
      const handle = await agent.exec(exec, { fromOffset: output.end, manualAck: true });
      await this.write(vmId, { state: 'started', turn });
      return handle;
    });
  }

  private async attach({ vmId, turn }: RunInVm, output: RunOutput): Promise<ExecHandle> {
    const agent = await this.options.vms.agent(vmId);
    try {
      return await agent.attachExec(execIdOf(turn), { fromOffset: output.end, manualAck: true });
    } catch (error) {
      if (!isKilnError(error, 'NOT_FOUND')) throw error;
      throw new KilnError('RUN_LOST', `The guest of VM ${vmId} knows nothing of run ${turn}, which was started in it.`);
    }
  }

  private async kill(vmId: string, turn: number): Promise<void> {
    try {
      const active = this.active.get(vmId);
      const handle = (active?.turn === turn ? active.handle : undefined) ?? (await this.handleOf(vmId, turn));
      await handle.signal('SIGKILL');
    } catch (error) {
      // It never started, has ended, or its VM is gone: nothing is left to kill.
      if (!isKilnError(error, 'NOT_FOUND', 'CONFLICT', 'VMM_EXITED', 'GUEST_CRASHED')) throw error;
    }
  }

  /** Its output stays in the guest for whoever attaches next. */
  private async handleOf(vmId: string, turn: number): Promise<ExecHandle> {
    const agent = await this.options.vms.agent(vmId);
    const handle = await agent.attachExec(execIdOf(turn), { manualAck: true });
    handle.exit.catch(() => undefined);
    return handle;
  }

  private async openOutput({ vmId, turn, session, runId }: RunRequest): Promise<RunOutput> {
    const run = { vmId, turn };
    const path = this.options.outputPath(run);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await this.options.expectOutput(run, { session, runId });
    return openRunOutput(path, { maxBytes: this.options.maxOutputBytes });
  }

  private record(vmId: string): Promise<RunRecord | undefined> {
    return readStateFile(this.file(vmId), runRecordSchema);
  }

  private write(vmId: string, record: RunRecord): Promise<void> {
    return writeStateFile(this.file(vmId), record);
  }

  private file(vmId: string): string {
    return join(this.options.vmDirectory(vmId), 'run.json');
  }
}

const isPast = (record: RunRecord, { turn }: RunInVm) => record.turn > turn || (record.turn === turn && isOver(record));

const isOver = ({ state }: RunRecord) => state === 'exited' || state === 'cancelled';

function noneIfUnknown(error: unknown): readonly ExecOutput[] {
  if (isKilnError(error, 'NOT_FOUND')) return [];
  throw error;
}

function undefinedIfMissing(error: unknown): undefined {
  if (!isErrno(error, 'ENOENT')) throw error;
}

function notAt({ vmId, turn }: RunInVm, record: RunRecord): KilnError {
  return new KilnError('CONFLICT', `VM ${vmId} is at run ${record.turn} (${record.state}), not at ${turn}.`);
}

/** One for each turn: a second start in the same guest finds the first. */
function execIdOf(turn: number): string {
  return `run-${turn}`;
}

function cancelled({ turn }: RunInVm): KilnError {
  return new KilnError('CANCELLED', `Run ${turn} was cancelled.`);
}
