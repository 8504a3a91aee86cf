import { createHash, randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AbandonableTurns } from '../../concurrency/abandonable-turns.ts';
import { workloadRef } from '../../domain/owner.ts';
import type { BuildOutput, BuildStore, ServiceSources } from '../../ports/builds.ts';
import type { WorkloadDocuments } from '../../ports/documents.ts';
import type { CapacityLedger, VmHost } from '../../ports/host.ts';
import type { LogWriter, OwnerLogs } from '../../ports/logs.ts';
import { framed } from '../activity-frame.ts';
import type { HostActivities } from '../activity-types.ts';
import type { BuildResult } from '../workload/service-types.ts';
import { buildCacheKey, buildSteps } from './build-plan.ts';
import { type Builder, fetchOutput, prepareBuilder, reserveBuilder, runBuildSteps } from './builder-vm.ts';
import { type BuildRegistries, type PackageSources, registriesFor } from './package-sources.ts';

export interface BuildPorts extends PackageSources {
  readonly vms: VmHost;
  readonly ledger: CapacityLedger;
  readonly sources: ServiceSources;
  readonly documents: WorkloadDocuments;
  readonly builds: BuildStore;
  readonly logs: OwnerLogs;
  readonly namespaceId: string;
  readonly capacityPollMs: number;
  /** Folder for tars before their upload to the store. */
  readonly scratchDir: string;
}

type BuildInput = Parameters<HostActivities['buildService']>[0];

interface Job {
  readonly input: BuildInput;
  readonly tarPath: string;
  readonly cacheKey: string | undefined;
  readonly registries: BuildRegistries;
  readonly env: Readonly<Record<string, string>>;
  readonly log: LogWriter;
  readonly signal: AbortSignal;
}

/** Finds the output in the cache or builds it in a VM; of several builds with one key, only one runs at a time. */
export function createBuildService(ports: BuildPorts): HostActivities['buildService'] {
  const turns = new AbandonableTurns();
  return (input) =>
    framed(async (signal) => {
      const log = await ports.logs.open(workloadRef(input.workloadId, input.epoch));
      const request = await ports.documents.readSpec(input.workloadId, input.specHash);
      const packed = await ports.sources.pack(request, signal);
      try {
        const env = request.env ?? {};
        const registries = await registriesFor(input.manifest.language, ports);
        const cacheKey = buildCacheKey({
          manifest: input.manifest,
          sourceSha256: packed.sha256,
          lockSha256: packed.lockSha256,
          imageDigest: input.imageDigest,
          env,
          registries: createHash('sha256').update(JSON.stringify(registries.files)).digest('hex'),
        });
        const job: Job = { input, tarPath: packed.tarPath, cacheKey, registries, env, log, signal };
        const attempt = () => findOrBuild(ports, job);
        return await (cacheKey === undefined ? attempt() : turns.run(cacheKey, attempt, signal));
      } finally {
        await rm(packed.tarPath, { force: true });
        await log.flush();
      }
    });
}

async function findOrBuild(ports: BuildPorts, job: Job): Promise<BuildResult> {
  const { cacheKey, log, input } = job;
  const known = cacheKey === undefined ? undefined : await ports.builds.find(cacheKey);
  if (known) {
    log.write('build', 'info', `build output ${known.sha256.slice(0, 12)} is in the cache`);
    return { ...known, cached: true };
  }
  if (buildSteps(input.manifest).length === 0) {
    log.write('build', 'info', 'nothing to install and no build command: the sources are the output');
    return { ...(await ports.builds.save(job.tarPath, cacheKey)), cached: false };
  }
  return buildInVm(ports, job);
}

async function buildInVm(ports: BuildPorts, job: Job): Promise<BuildResult> {
  const { input, log, signal } = job;
  const builder: Builder = { ...input.builder, owner: { ...input.builder.owner, namespaceId: ports.namespaceId } };
  let output: BuildOutput | undefined;
  const outputPath = join(ports.scratchDir, `${builder.vmId}-${randomUUID()}.tar`);
  // Releasing the VM ends every call into a guest that may no longer answer.
  const onAbort = () => void ports.vms.release(builder.vmId, { graceMs: 0 }).catch(() => undefined);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await reserveBuilder(ports, builder, log, signal);
    const { tarPath, registries, env } = job;
    const source = { tarPath, registries, imageDigest: input.imageDigest };
    const agent = await prepareBuilder(ports, builder, source, log, signal);
    await runBuildSteps(agent, input.manifest, { env, registries, log, signal });
    await fetchOutput(agent, input.manifest, outputPath, signal);
    output = await ports.builds.save(outputPath, job.cacheKey);
    log.write('build', 'info', `build output ${output.sha256.slice(0, 12)}, ${output.bytes} bytes`);
    return { ...output, cached: false };
  } finally {
    signal.removeEventListener('abort', onAbort);
    await rm(outputPath, { force: true });
    const released = releaseBuilder(ports, builder.vmId);
    // A failed build reports its own reason: the workflow's undo repeats the release and shows if that fails.
    await (output === undefined ? released.catch(() => undefined) : released);
  }
}

async function releaseBuilder(ports: BuildPorts, vmId: string): Promise<void> {
  await ports.vms.release(vmId, { graceMs: 0 });
  await ports.ledger.release(vmId);
}
