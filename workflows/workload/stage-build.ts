import { patched } from '@temporalio/workflow';
import type { BuildResult } from '../../activities/workload/service-types.ts';
import { isOutage } from '../../domain/failures.ts';
import { builderResources, type ServiceManifest, type ServiceNeeds } from '../../domain/workload/workload.ts';
import { isTemplateFailure, judge, mayTryAnew } from '../activity-verdict.ts';
import type { MintedVm } from '../placed/placements.ts';
import type { Undo } from '../placed/undo-ledger.ts';
import type { PlacedWorkload, WorkloadContext } from './workload-context.ts';

/** @throws ActivityFailure with SERVICE_NOT_FOUND, MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED, ENV_MISSING */
export async function validate(
  ctx: WorkloadContext,
  placed: PlacedWorkload,
): Promise<{ manifest: ServiceManifest; needs?: ServiceNeeds }> {
  const { servicePath, specHash } = ctx.input;
  return await ctx.calls.onHost(placed, () =>
    placed.host.validateService({ ...ctx.ref(placed), servicePath, specHash }),
  );
}

/**
 * Builds the service. Every try uses a builder VM with a new name, released before the next try. A try does not count
 * where the host's worker or the store went away.
 */
export async function build(
  ctx: WorkloadContext,
  placed: PlacedWorkload,
  manifest: ServiceManifest,
): Promise<BuildResult> {
  let tries = 0;
  let interruptions = 0;
  let cold = false;
  for (;;) {
    const undo = builderUndo(ctx, placed);
    try {
      const result = await buildOnce(ctx, placed, manifest, undo.vm, cold);
      ctx.placements.undo.settle(undo);
      return result;
    } catch (error) {
      const verdict = judge(error);
      // Stays in the ledger: a cancelled try is released with everything else.
      if (verdict.kind === 'cancelled' || !mayTryAnew(error)) throw error;
      if (verdict.kind === 'suspicion') {
        interruptions += 1;
        await ctx.calls.untilHostAnswers(placed.hostId);
      } else if (verdict.kind === 'failure' && isOutage(verdict.code) && patched('build-through-an-outage')) {
        interruptions += 1;
        await ctx.calls.outagePause(interruptions);
      } else if (!cold && isTemplateFailure(error)) {
        cold = true;
      } else {
        tries += 1;
      }
      if (tries >= ctx.policies.build.tries || interruptions > ctx.policies.build.interruptions) throw error;
      ctx.progress.note(`build is tried anew: ${verdict.message}`);
      const failed = await ctx.placements.undo.releaseOne(undo, 'try anew');
      if (failed) ctx.progress.update({ unreleased: [...ctx.progress.state.unreleased, failed] });
    }
  }
}

type BuilderUndo = Undo & { readonly vm: MintedVm };

function builderUndo(ctx: WorkloadContext, placed: PlacedWorkload): BuilderUndo {
  const vm = ctx.placements.mintVm(placed, 'builder');
  const undo: BuilderUndo = {
    vm,
    name: `builder ${vm.vmId}`,
    hostId: placed.hostId,
    release: async () => {
      const graceMs = 0;
      await ctx.placements.releaser(placed)({ ...ctx.ref(placed), vmIds: [vm.vmId], reservationId: vm.vmId, graceMs });
    },
  };
  ctx.placements.undo.register(undo);
  return undo;
}

function buildOnce(
  ctx: WorkloadContext,
  placed: PlacedWorkload,
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
    imageDigest: ctx.progress.image?.digest ?? '',
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
