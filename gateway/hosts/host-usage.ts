/** Asks the host of a workload what its VM uses now. */
import { vmUsagePath } from '../../contracts/host/data-plane.ts';
import { type VmUsageView, vmUsageSchema } from '../../contracts/host/vm-usage.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { type FreshHostOptions, freshHost } from './fresh-host.ts';

/** @returns undefined where the host does not answer in time, or the VM does not run there; never fails. */
export type FetchVmUsage = (host: HostEntry, vmId: string) => Promise<VmUsageView | undefined>;

/** @param options.timeoutMs for the whole answer: a slow host must not delay the rest of a workload's view */
export function vmUsageFetcher(options: { readonly token: string; readonly timeoutMs: number }): FetchVmUsage {
  return async (host, vmId) => {
    try {
      const reply = await fetch(new URL(vmUsagePath(vmId), host.url), {
        headers: { authorization: `Bearer ${options.token}` },
        redirect: 'error',
        signal: AbortSignal.timeout(options.timeoutMs),
      });
      if (reply.status === 200) return vmUsageSchema.parse(await reply.json());
      await reply.body?.cancel();
      return undefined;
    } catch {
      return undefined;
    }
  };
}

/** @returns what the VM of a workload uses; asks only a host that has registered recently. */
export function usageReader(
  options: FreshHostOptions & { readonly fetchVmUsage: FetchVmUsage },
): (vm: { hostId: string; vmId: string }) => Promise<VmUsageView | undefined> {
  return async ({ hostId, vmId }) => {
    const host = await freshHost(options, hostId).catch(() => undefined);
    return host && options.fetchVmUsage(host, vmId);
  };
}
