import type { InstanceRecord } from '../contracts/host/instance-record.ts';
import type { VmPaths } from './vm-paths.ts';

/** What identifies a VM's processes; for a VM without a readable record, what its record would say. */
export type VmMark = Pick<InstanceRecord, 'sockets'>;

export function markOf({ agentSocket }: Pick<VmPaths, 'agentSocket'>): VmMark {
  return { sockets: { agent: agentSocket } };
}

/** @returns whether a command line names the VM's agent socket, as that of a VMM does that makes this socket itself */
export function namesAgentSocket({ sockets }: VmMark, argv: readonly string[]): boolean {
  return argv.some((word) => mentions(word, sockets.agent));
}

/** The path as a whole value: `/run/kiln/a-1-1/agent.sock` must not match in `/x/run/kiln/a-1-1/agent.sock`. */
function mentions(word: string, path: string): boolean {
  const at = word.indexOf(path);
  if (at < 0) return false;
  const before = word[at - 1];
  const after = word[at + path.length];
  return (before === undefined || before === '=' || before === ':') && (after === undefined || after === ',');
}
