import type { FailureCode } from './failures.ts';

/**
 * What an operator can do about a workload that ended with a code; shown in the Temporal Web UI and by
 * `kiln workload inspect`. Markdown with code spans only. Codes that never end a workload are absent.
 */
export const FAILURE_ADVICE: Readonly<Partial<Record<FailureCode, string>>> = {
  SPEC_INVALID: 'Correct the request and create it under a new id.',
  SERVICE_NOT_FOUND: 'Give the path of the service folder as its host sees it, below the project root.',
  MANIFEST_MISSING: 'Add a `package.json` or a `kiln.json` to the service folder.',
  CONFIG_INVALID: 'Correct what the message names in the service folder.',
  DEPENDENCY_UNDECLARED: 'Declare the dependency, renew the lock file, and deploy again.',
  INSPECTION_LIMIT:
    'Reading its files took too much time or memory: make lock file and configuration smaller, or leave files out of the folder.',
  BUILD_FAILED: 'The build itself failed: its last lines are in the log. Deploy the corrected service under a new id.',
  BUILD_TIMEOUT:
    'See in the log what the build waited for; a package registry that does not answer is the usual cause.',
  ENV_MISSING: 'Create it again with the environment variables that the message names.',
  PORT_IN_USE: 'Leave the host port out to be given a free one, or stop whoever holds it.',
  PORT_NOT_ALLOWED: 'Ask for a host port of the range that the message names, or leave it out to be given a free one.',
  SERVICE_EXITED: 'The service ended by itself: read its last lines, correct it, deploy it under a new id.',
  HEALTH_FAILED: 'Does the service listen on `PORT`, and does its health path answer with 2xx in time?',
  IMAGE_MISSING: 'List what there is with `kiln image list`; make it with `kiln image build NAME`.',
  IMAGE_CORRUPT: 'Build and publish the image anew with `kiln image build NAME`.',
  NO_CAPACITY: 'Compare with `kiln host list`: stop something, ask for less, or add a host.',
  HOST_LOST: 'See `kiln host list` and the log of that host worker; a new workload is placed elsewhere.',
  HYPERVISOR_UNAVAILABLE: 'The VMM cannot run on that host: see its worker’s log, and whether QEMU is installed.',
  BOOT_TIMEOUT: 'Is the host overloaded (`kiln host list`)? The console of the VM is in the log of the host worker.',
  AGENT_TIMEOUT: 'The guest stopped answering; is the host overloaded (`kiln host list`)?',
  AGENT_PROTOCOL: 'The guest spoke nonsense: image and Kiln may be of different versions, or the guest is hostile.',
  AGENT_LOST: 'The guest’s channel broke; a new workload starts clean.',
  GUEST_CRASHED: 'The guest’s kernel died, most often for want of memory: give it more.',
  VMM_EXITED: 'The VM’s process is gone: killed by hand, or by the kernel for want of memory (see the host’s `dmesg`).',
  DISK_FULL: 'Free space where the host keeps its state, see docs/operations.md; then create it again.',
  STORE_UNAVAILABLE: 'Bring the object store back; then create it again.',
  UNSUPPORTED:
    'This host or the image lacks what the message names. A newer guest agent comes with `kiln image build NAME`.',
  TERMINATED: 'It was terminated by hand; the host’s sweep frees what it held. Use stop instead.',
  TIMED_OUT: 'A step took longer than it may; the history shows which.',
  INTERNAL: 'A defect of Kiln or of the machine under it: the log of the host or control worker says more.',
};
