import { CancellationScope } from '@temporalio/workflow';
import type { BuildResult } from '../../activities/workload/service-types.ts';
import type { ServiceManifest } from '../../domain/workload/workload.ts';
import { isTemplateFailure, judge, mayTryAnew } from '../workflow-failures.ts';
import type { Placed, WorkloadContext } from './workload-context.ts';

/** Boots the service's VM, starts the service and waits until it is healthy. */
export async function deploy(
  ctx: WorkloadContext,
  placed: Placed,
  manifest: ServiceManifest,
  build: BuildResult,
): Promise<void> {
  const vmId = await bootFreshVm(ctx, placed);
  const { specHash, port, hostPort } = ctx.input;
  const service = { ...ctx.ref(placed), vmId, specHash, manifest, build, port };
  const started = await ctx.onHost(placed, () =>
    placed.host.startService(hostPort === undefined ? service : { ...service, hostPort }),
  );
  updateVm(ctx, { port: started.port, url: started.url });
  await ctx.onHost(placed, () => placed.host.checkHealth({ ...ctx.ref(placed), vmId, manifest, port }));
}

async function bootFreshVm(ctx: WorkloadContext, placed: Placed): Promise<string> {
  const imageDigest = ctx.record.state.image?.digest ?? '';
  const { workloadId, requestedAt } = ctx.input;
  const { resources } = ctx.needs;
  let cold = false;
  for (let tries = 1; ; tries++) {
    const { vmId, boot, owner } = ctx.mintVm(placed, 'service');
    placed.vmIds.push(vmId);
    ctx.record.update({ vm: { hostId: placed.hostId, epoch: placed.epoch, boot, vmId } });
    try {
      const ref = ctx.ref(placed);
      await ctx.onHost(placed, () =>
        placed.host.provisionRootfs({ ...ref, vmId, owner, imageDigest, resources, ...(cold && { cold }) }),
      );
      const deadlineMs = ctx.policies.deploy.bootMs;
      const { pid } = await ctx.onHost(placed, () =>
        placed.host.bootVm({ ...ref, vmId, hostname: workloadId, deadlineMs }),
      );
      updateVm(ctx, { pid });
      ctx.record.update({ vmReadyMs: Date.now() - Date.parse(requestedAt) });
      return vmId;
    } catch (error) {
      const verdict = judge(error);
      if (verdict.kind === 'cancelled' || !mayTryAnew(error) || tries >= ctx.policies.deploy.boots) throw error;
      // A template that failed says nothing about the workload: the boot from it costs no try.
      if (!cold && isTemplateFailure(error)) tries -= 1;
      cold ||= isTemplateFailure(error);
      ctx.record.note(`boot ${boot} is tried anew: ${verdict.message}`);
      await releaseFailedBoot(ctx, placed, vmId);
    }
  }
}

/** The failed VM goes first, so that its memory is free for the next; if it cannot go, it stays in the ledger. */
async function releaseFailedBoot(ctx: WorkloadContext, placed: Placed, vmId: string): Promise<void> {
  await CancellationScope.nonCancellable(() =>
    placed.host.releaseVm({ ...ctx.ref(placed), vmIds: [vmId], graceMs: 0 }),
  );
  placed.vmIds.splice(placed.vmIds.indexOf(vmId), 1);
}

function updateVm(ctx: WorkloadContext, patch: { pid?: number; port?: number; url?: string }): void {
  const { vm } = ctx.record.state;
  if (vm) ctx.record.update({ vm: { ...vm, ...patch } });
}
