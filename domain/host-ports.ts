/** The ports of a host on which VMs can be reached: a range that the operator sets. */
import { KilnError } from './failures.ts';

/** Both ends included. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** Below the range that Linux takes outgoing ports from (32768 and up). */
export const DEFAULT_HOST_PORTS: PortRange = { from: 20_000, to: 29_999 };

/** @throws PORT_NOT_ALLOWED where a requested port is outside of the range */
export function assertHostPort(port: number, { from, to }: PortRange): void {
  if (port >= from && port <= to) return;
  throw new KilnError(
    'PORT_NOT_ALLOWED',
    `Host port ${port} is not one of those that this Kiln gives out, ${from} to ${to}; ask for one of them, or for none.`,
    { port, from, to },
  );
}
