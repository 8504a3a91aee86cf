/** The names a guest may reach, kept beside its record so that an adopted VM has the same policy again. */
import { join } from 'node:path';
import { z } from 'zod';
import { parseEgressEntry } from '../../domain/egress/rules.ts';
import { KilnError } from '../../domain/failures.ts';
import { readStateFile, writeStateFile } from '../../linux/state-file.ts';
import type { EgressPolicy } from '../../ports/host.ts';

const entries = z.array(z.string().max(300)).max(1000);
const policySchema = z.strictObject({ allow: entries, privateAllowed: entries }) satisfies z.ZodType<EgressPolicy>;

/** Default of every guest. */
export const NO_EGRESS: EgressPolicy = { allow: [], privateAllowed: [] };

export interface EgressPolicies {
  /** @returns the policy in force now */
  of(vmId: string): EgressPolicy;
  /** Writes the policy, then puts it in force; open connections that it no longer allows stay. @throws SPEC_INVALID */
  set(vmId: string, policy: EgressPolicy): Promise<void>;
  /** Puts a recorded policy in force again. */
  restore(vmId: string): Promise<void>;
  /** From now on nothing is allowed. The record is removed with the VM's directory. */
  forget(vmId: string): void;
}

/** @param vmDirectory where a VM's record lies */
export function createEgressPolicies(vmDirectory: (vmId: string) => string): EgressPolicies {
  const policies = new Map<string, EgressPolicy>();
  const file = (vmId: string) => join(vmDirectory(vmId), 'egress.json');
  return {
    of: (vmId) => policies.get(vmId) ?? NO_EGRESS,
    async set(vmId, policy) {
      assertPolicy(policy);
      // A stricter policy applies at once, a wider one only when it is on disk.
      policies.set(vmId, NO_EGRESS);
      await writeStateFile(file(vmId), { allow: [...policy.allow], privateAllowed: [...policy.privateAllowed] });
      policies.set(vmId, policy);
    },
    async restore(vmId) {
      const policy = await readStateFile(file(vmId), policySchema);
      if (policy !== undefined) policies.set(vmId, policy);
    },
    forget: (vmId) => void policies.delete(vmId),
  };
}

function assertPolicy(policy: EgressPolicy): void {
  for (const entry of [...policy.allow, ...policy.privateAllowed]) {
    if (parseEgressEntry(entry) !== undefined) continue;
    throw new KilnError('SPEC_INVALID', `"${entry.slice(0, 300)}" is no egress entry: host:port or *.domain:port.`);
  }
}
