/** Counts what guests move over the connections that they open, so that a run which only waits for bytes is heard of. */
import type { EgressVerdict } from '../../ports/guest-agent.ts';

export interface EgressMeter {
  /** Bytes that were passed on, of both directions, since this process knows the VM. */
  bytesOf(vmId: string): number;
  /** @returns the verdict; an allowed connection is counted */
  metered(vmId: string, verdict: EgressVerdict): EgressVerdict;
  /** The VM is gone; the last bytes of its connections may still come. */
  forget(vmId: string): void;
}

/** @returns a meter that has counted nothing */
export function createEgressMeter(): EgressMeter {
  const counters = new Map<string, { bytes: number }>();
  return {
    bytesOf: (vmId) => counters.get(vmId)?.bytes ?? 0,
    metered(vmId, verdict) {
      if (!verdict.allow) return verdict;
      const counter = counters.get(vmId) ?? { bytes: 0 };
      counters.set(vmId, counter);
      const onBytes = (bytes: number): void => {
        counter.bytes += bytes;
      };
      return { ...verdict, onBytes };
    },
    forget: (vmId) => void counters.delete(vmId),
  };
}
