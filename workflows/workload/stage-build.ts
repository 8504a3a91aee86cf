import { patched } from '@temporalio/workflow';
import type { BuildResult } from '../../activities/workload/service-types.ts';
import { isOutage } from '../../domain/failures.ts';
import { builderResources, type ServiceManifest, type ServiceNeeds } from '../../domain/workload/workload.ts';
import type { Undo } from '../undo-ledger.ts';
import { isTemplateFailure, judge, mayTryAnew } from '../workflow-failures.ts';
import type { Placed, WorkloadContext } from './workload-context.ts';

/** @throws ActivityFailure with SERVICE_NOT_FOUND, MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED, ENV_MISSING */
export async function validate(
  ctx: WorkloadContext,
  placed: Placed,
): Promise<{ manifest: ServiceManifest; needs?: ServiceNeeds }> {
  const { servicePath, specHash } = ctx.input;
  return await ctx.onHost(placed, () => placed.host.validateService({ ...ctx.ref(placed), servicePath, specHash }));
}

/**
 * Builds the service. Every try has a builder VM of a new name, released before the next one begins; a try that ended
 * because its host's worker or the store went away does not count.
 */
export async function build(ctx: WorkloadContext, placed: Placed, manifest: ServiceManifest): Promise<BuildResult> {
  let tries = 0;
  let interruptions = 0;
  let cold = false;
  for (;;) {
    const undo = builderUndo(ctx, placed);
    try {
      const result = await buildOnce(ctx, placed, manifest, undo.vm, cold);
      ctx.undo.settle(undo);
      return result;
    } catch (error) {
      const verdict = judge(error);
      // Left in the ledger: a cancelled try is released with everything else.
      if (verdict.kind === 'cancelled' || !mayTryAnew(error)) throw error;
      if (verdict.kind === 'suspicion') {
        interruptions += 1;
        await ctx.untilHostAnswers(placed.hostId);
      } else if (verdict.kind === 'failure' && isOutage(verdict.code) && patched('build-through-an-outage')) {
        interruptions += 1;
        await ctx.outagePause(interruptions);
      } else if (!cold && isTemplateFailure(error)) {
        cold = true;
      } else {
        tries += 1;
      }
      if (tries >= ctx.policies.build.tries || interruptions > ctx.policies.build.interruptions) throw error;
      ctx.record.note(`build is tried anew: ${verdict.message}`);
      const failed = await ctx.undo.releaseOne(undo, 'try anew');
      if (failed) ctx.record.update({ unreleased: [...ctx.record.state.unreleased, failed] });
    }
  }
}

type BuilderUndo = Undo & { readonly vm: ReturnType<WorkloadContext['mintVm']> };

function builderUndo(ctx: WorkloadContext, placed: Placed): BuilderUndo {
  const vm = ctx.mintVm(placed, 'builder');
  const undo: BuilderUndo = {
    vm,
    name: `builder ${vm.vmId}`,
    hostId: placed.hostId,
    release: async () => {
      const graceMs = 0;
      await ctx.releaser(placed)({ ...ctx.ref(placed), vmIds: [vm.vmId], reservationId: vm.vmId, graceMs });
    },
  };
  ctx.undo.register(undo);
  return undo;
}

function buildOnce(
  ctx: WorkloadContext,
  placed: Placed,
  manifest: ServiceManifest,
  vm: BuilderUndo['vm'],
  cold: boolean,
): Promise<BuildResult> {
  const { servicePath, specHash } = ctx.input;
  return placed.host.buildService({
    ...ctx.ref(placed),
    servicePath,
    specHash,
    manifest,
    imageDigest: ctx.record.state.image?.digest ?? '',
    builder: {
      vmId: vm.vmId,
      owner: vm.owner,
      resources: builderResources(ctx.needs.resources),
      reservationTtlMs: ctx.policies.placement.reservationTtlMs,
      bootMs: ctx.policies.build.bootMs,
      ...(cold && { cold }),
    },
  });
}
