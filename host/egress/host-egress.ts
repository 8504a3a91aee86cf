/** Connections that guests ask for: dials and counts them, and writes refusals into the log of the service. */
import { defined } from '../../domain/defined.ts';
import type { EgressVerdict } from '../../ports/guest-agent.ts';
import { createEgressDialer, type EgressDialer, type EgressDialerOptions, type EgressProxy } from './dialer.ts';
import { createRefusalLog, type RefusalLogOptions } from './refusal-log.ts';

export interface HostEgressOptions {
  readonly settings: Omit<EgressDialerOptions, 'proxy' | 'privateNames' | 'resolve'> & {
    /** Most different refused connections of one VM that its log names. */
    readonly loggedRefusals: number;
  };
  readonly proxy: EgressProxy | undefined;
  readonly privateNames: EgressDialerOptions['privateNames'];
  /** Addresses of a name; absent: the resolver of this machine. */
  readonly resolve: EgressDialerOptions['resolve'];
  readonly inspect: RefusalLogOptions['inspect'];
  readonly logs: RefusalLogOptions['logs'];
  readonly onVerdict: (verdict: EgressVerdict) => void;
}

export interface HostEgress {
  readonly dial: EgressDialer;
  note(vmId: string, request: { name: string; port: number }, verdict: EgressVerdict): void;
  /** The VM is gone. */
  forget(vmId: string): void;
}

export function createHostEgress(options: HostEgressOptions): HostEgress {
  const { settings, proxy, privateNames, resolve, inspect, logs, onVerdict } = options;
  const refusals = createRefusalLog({ inspect, logs, perVm: settings.loggedRefusals });
  return {
    dial: createEgressDialer({
      ...settings,
      ...defined({ proxy, privateNames, resolve }),
    }),
    note(vmId, request, verdict) {
      onVerdict(verdict);
      if (!verdict.allow) void refusals.note(vmId, request, verdict.reason);
    },
    forget: (vmId) => refusals.forget(vmId),
  };
}
