import { CancellationScope } from '@temporalio/workflow';
import type { VmActivities } from '../../activities/vm/vm-types.ts';
import type { VmRole } from '../../domain/vm.ts';
import { isTemplateFailure, judge, mayTryAnew } from '../activity-verdict.ts';
import type { PlacedContext } from './placed-context.ts';
import type { Placed } from './placements.ts';

/**
 * Boots a VM of the owner until its agent is configured. Every try uses a VM with a new name; the failed VM is released
 * before the next try begins.
 * @returns the name of the VM
 * @throws ActivityFailure when no try is left
 */
export async function bootFreshVm<Host extends VmActivities>(
  ctx: PlacedContext<Host>,
  placed: Placed<Host>,
  role: VmRole,
): Promise<string> {
  const { owner, progress } = ctx;
  let cold = false;
  for (let tries = 1; ; tries++) {
    const minted = ctx.placements.mintVm(placed, role);
    const { vmId, boot } = minted;
    placed.vmIds.push(vmId);
    progress.showVm({ hostId: placed.hostId, epoch: placed.epoch, boot, vmId });
    try {
      await provision(ctx, placed, minted, cold);
      const deadlineMs = ctx.policies.deploy.bootMs;
      const { pid } = await ctx.calls.onHost(placed, () =>
        placed.host.bootVm({ ...owner.call(placed.epoch), vmId, hostname: owner.hostname ?? vmId, deadlineMs }),
      );
      progress.showBooted({ pid });
      return vmId;
    } catch (error) {
      const verdict = judge(error);
      if (verdict.kind === 'cancelled' || !mayTryAnew(error) || tries >= ctx.policies.deploy.boots) throw error;
      // A failed template says nothing about the owner: the boot from it does not count as a try.
      if (!cold && isTemplateFailure(error)) tries -= 1;
      cold ||= isTemplateFailure(error);
      progress.note(`boot ${boot} is tried anew: ${verdict.message}`);
      await releaseFailedBoot(ctx, placed, vmId);
    }
  }
}

async function provision<Host extends VmActivities>(
  { owner, progress, calls }: PlacedContext<Host>,
  placed: Placed<Host>,
  { vmId, owner: claim }: ReturnType<PlacedContext<Host>['placements']['mintVm']>,
  cold: boolean,
): Promise<void> {
  const imageDigest = progress.image?.digest ?? '';
  const { resources } = owner.needs();
  const call = owner.call(placed.epoch);
  await calls.onHost(placed, () =>
    placed.host.provisionRootfs({ ...call, vmId, owner: claim, imageDigest, resources, ...(cold && { cold }) }),
  );
}

/** Releases the failed VM first, so that its memory is free for the next. If that fails, it stays in the ledger. */
async function releaseFailedBoot<Host extends VmActivities>(
  { owner }: PlacedContext<Host>,
  placed: Placed<Host>,
  vmId: string,
): Promise<void> {
  await CancellationScope.nonCancellable(() =>
    placed.host.releaseVm({ ...owner.call(placed.epoch), vmIds: [vmId], graceMs: 0 }),
  );
  placed.vmIds.splice(placed.vmIds.indexOf(vmId), 1);
}
