import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { KilnError } from '../../domain/failures.ts';
import { reservationId } from '../../domain/names.ts';
import type { VmOwner } from '../../domain/vm.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import type { Resources, ServiceManifest } from '../../domain/workload/workload.ts';
import type { AgentChannel, ExecExit } from '../../ports/guest-agent.ts';
import type { CapacityLedger, VmHost } from '../../ports/host.ts';
import type { LogWriter } from '../../ports/logs.ts';
import { guestEnvironment } from '../workload/guest-environment.ts';
import { type BuildStep, buildSteps, SOURCE_FOLDER } from './build-plan.ts';
import { type BuildRegistries, connectRegistries } from './package-sources.ts';

const STAGE: Stage = 'build';
/** Last lines of a failed step that its failure carries. */
const TAIL_LINES = 30;

export interface Builder {
  readonly vmId: string;
  readonly owner: VmOwner;
  readonly resources: Resources;
  readonly reservationTtlMs: number;
  readonly bootMs: number;
  /** Boots cold even where there is a template. */
  readonly cold?: boolean;
}

interface Ports {
  readonly vms: VmHost;
  readonly ledger: CapacityLedger;
  /** Pause between two tries to get the builder's capacity, ms. */
  readonly capacityPollMs: number;
}

/**
 * Reserves capacity for a builder, however long that takes: a build that waits costs no try.
 * @throws NO_CAPACITY where it would wait for ever
 */
export async function reserveBuilder(
  ports: Ports,
  builder: Builder,
  log: LogWriter,
  signal: AbortSignal,
): Promise<void> {
  const { vmId, owner, resources, reservationTtlMs } = builder;
  // The workload's own reservation: it may expire while this build waits, so others can use it; it is renewed later.
  const beside = reservationId(owner.workflowId, owner.epoch);
  const request = { id: vmId, ownerWorkflowId: owner.workflowId, resources, ttlMs: reservationTtlMs, beside };
  for (let waited = false; !(await ports.ledger.reserve(request)); waited = true) {
    if (!waited) log.write(STAGE, 'info', `waiting for ${resources.memMib} MiB to build in`);
    await delay(ports.capacityPollMs, undefined, { signal });
  }
}

/** Boots a builder VM and brings sources and registry settings into it. */
export async function prepareBuilder(
  ports: Ports,
  builder: Builder,
  source: { tarPath: string; imageDigest: string; registries: BuildRegistries },
  log: LogWriter,
  signal: AbortSignal,
): Promise<AgentChannel> {
  const { vmId, owner, resources, bootMs, cold = false } = builder;
  await ports.vms.provision({ vmId, owner, imageDigest: source.imageDigest, resources, cold, signal });
  const booted = await ports.vms.boot({
    vmId,
    hostname: `builder-${owner.epoch}-${owner.boot}`,
    deadlineMs: bootMs,
    signal,
  });
  const from = booted.start === 'cold' ? '' : ` from the ${booted.start}`;
  log.write(STAGE, 'info', `builder ${vmId} answers after ${Math.round(booted.bootMs)} ms${from}`);
  const agent = await ports.vms.agent(vmId);
  await connectRegistries(ports.vms, agent, vmId, source.registries);
  await agent.putTar(SOURCE_FOLDER, createReadStream(source.tarPath));
  return agent;
}

/** Runs every step of the build. @throws BUILD_FAILED with the last lines of the step that failed */
export async function runBuildSteps(
  agent: AgentChannel,
  manifest: ServiceManifest,
  context: {
    env: Readonly<Record<string, string>>;
    registries: BuildRegistries;
    log: LogWriter;
    signal: AbortSignal;
  },
): Promise<void> {
  const env = {
    ...guestEnvironment(manifest.language),
    HOME: '/root',
    CI: 'true',
    ...context.registries.env,
    ...context.env,
  };
  for (const [index, step] of buildSteps(manifest).entries()) await runStep(agent, step, index, env, context);
}

async function runStep(
  agent: AgentChannel,
  step: BuildStep,
  index: number,
  env: Readonly<Record<string, string>>,
  { log, signal }: { log: LogWriter; signal: AbortSignal },
): Promise<void> {
  log.write(STAGE, 'info', `$ ${step.argv[0] === '/bin/sh' ? step.argv[2] : step.argv.join(' ')}`);
  const begun = Date.now();
  const exec = await agent.exec({ execId: `build-${index}`, argv: step.argv, cwd: SOURCE_FOLDER, env, output: 'wait' });
  const onAbort = () => void exec.signal('SIGKILL').catch(() => undefined);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const tail = await log.writeOutput(STAGE, exec.output, TAIL_LINES);
    const exit = await exec.exit;
    signal.throwIfAborted();
    if (exit.code !== 0) throw stepFailed(step, exit, tail);
    log.write(STAGE, 'info', `${step.name} took ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  } finally {
    signal.removeEventListener('abort', onAbort);
    await log.flush();
  }
}

function stepFailed(step: BuildStep, exit: ExecExit, tail: readonly string[]): KilnError {
  const how = exit.signal === null ? `exited with code ${exit.code}` : `was killed by ${exit.signal}`;
  return new KilnError('BUILD_FAILED', `${step.name} ${how}: ${tail.at(-1) ?? 'no output'}`, {
    step: step.name,
    code: exit.code,
    stack: tail.join('\n'),
  });
}

/** Brings the output out of the builder into a file. */
export async function fetchOutput(
  agent: AgentChannel,
  manifest: ServiceManifest,
  tarPath: string,
  signal: AbortSignal,
): Promise<void> {
  const tar = agent.getTar(SOURCE_FOLDER, manifest.outputs, ['.git']);
  await pipeline(tar, createWriteStream(tarPath), { signal });
}
