import type { GuestIdentity } from '../../../domain/vm.ts';

/** Identities that differ only in the host name. */
export const identity = (hostname: string): GuestIdentity => ({
  hostname,
  seedHex: 'ab'.repeat(32),
  machineId: 'cd'.repeat(16),
  wallClockMs: Date.now(),
});
