import { patched } from '@temporalio/workflow';
import type { Cause } from '../../../domain/session/session-events.ts';

/** Failures that say that a VM, or the run in it, is not there any more, or that its guest answers nobody. */
const GONE: readonly string[] = [
  ...['VMM_EXITED', 'GUEST_CRASHED', 'RUN_LOST', 'HOST_LOST', 'NOT_FOUND'],
  ...['AGENT_TIMEOUT', 'AGENT_LOST', 'AGENT_PROTOCOL'],
];

/** Failures that say that the VM itself is not there any more. */
const ENDED: readonly string[] = ['VMM_EXITED', 'GUEST_CRASHED', 'HOST_LOST', 'NOT_FOUND'];

/** @returns whether the VM has ended. A guest that answers nobody for a moment is still there. */
export function saysVmEnded(code: string): boolean {
  return ENDED.includes(code);
}

/** @returns whether the VM is of no more use. Any other failure, such as a full disk of its host, is none of the VM. */
export function saysVmGone(code: string): boolean {
  return GONE.includes(code);
}

/** @returns why the session has lost its VM: with its host, or by itself */
export function goneBecause(code: string, detail: string): Cause {
  return code === 'HOST_LOST' && patched('tell-lost-hosts') ? { code, detail } : { code: 'VM_DIED', detail };
}
