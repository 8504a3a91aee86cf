import type { BuildResult } from '../../activities/workload/service-types.ts';
import type { ServiceManifest } from '../../domain/workload/workload.ts';
import { bootFreshVm } from '../placed/boot-loop.ts';
import type { PlacedWorkload, WorkloadContext } from './workload-context.ts';

/** Boots the service's VM, starts the service and waits until it is healthy. */
export async function deploy(
  ctx: WorkloadContext,
  placed: PlacedWorkload,
  manifest: ServiceManifest,
  build: BuildResult,
): Promise<void> {
  const vmId = await bootFreshVm(ctx, placed, 'service');
  const { specHash, port, hostPort } = ctx.input;
  const service = { ...ctx.ref(placed), vmId, specHash, manifest, build, port };
  const started = await ctx.calls.onHost(placed, () =>
    placed.host.startService(hostPort === undefined ? service : { ...service, hostPort }),
  );
  ctx.progress.updateVm({ port: started.port, url: started.url });
  await ctx.calls.onHost(placed, () => placed.host.checkHealth({ ...ctx.ref(placed), vmId, manifest, port }));
}
