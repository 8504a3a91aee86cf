import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { defined } from '../../domain/defined.ts';
import { KilnError } from '../../domain/failures.ts';
import type { DriverLog } from '../driver-context.ts';
import { type GroupTree, groupOf, makeGroup, procsFiles, removeGroup } from './control-groups.ts';
import { findGroups, type NoGroups } from './find-groups.ts';
import { type CapSettings, DEFAULT_CAP_SETTINGS, groupCaps, type IoCap } from './group-caps.ts';
import { groupLimits } from './group-limits.ts';
import { diskOf } from './io-device.ts';
import { launchInGroup } from './launch-in-group.ts';
import { plainLimits } from './plain-limits.ts';
import type { LimitsMode, VmLimits } from './vm-limits.ts';

const run = promisify(execFile);

export interface LimitsOptions {
  readonly mode: LimitsMode;
  /** Directory of a cgroup2 group to make the VMs' groups below; `cgroup1`; absent: the group of this process. */
  readonly parent?: string;
  /** State directory of the host, absolute: names its groups. */
  readonly stateDir: string;
  readonly caps?: Partial<CapSettings>;
  /** Reads and writes per second that one VM may make on the disk of the state directory; absent: any number. */
  readonly ioBytesPerSecond?: number;
  readonly log: DriverLog;
  /** How long the trial may take, ms. Default 5000. */
  readonly trialMs?: number;
}

/** No VM has this name: ids of VMs end in two numbers. */
const TRIAL_ID = 'trial';
const TRIAL_MS = 5_000;
const POLL_MS = 10;

/**
 * Finds out by a real trial whether this host can have control groups.
 * @throws HYPERVISOR_UNAVAILABLE where they are required and not possible, with advice
 */
export async function openLimits(options: LimitsOptions): Promise<VmLimits> {
  const { mode, log } = options;
  if (mode === 'off') return plainLimits;
  const hostName = hostGroupName(options.stateDir);
  const found = await findGroups({ hostName, ...defined({ parent: options.parent }) });
  const io = await ioCap(options, 'roots' in found ? found : undefined);
  const tree = 'reason' in found ? found : await proven(found, io, options.trialMs ?? TRIAL_MS);
  if ('reason' in tree) {
    const message = `VMs cannot have control groups: ${tree.reason}`;
    if (mode === 'required')
      throw new KilnError('HYPERVISOR_UNAVAILABLE', `${message}. ${tree.fix}`, { fix: tree.fix });
    log.warn({ fix: tree.fix }, `${message}; nothing but their own size bounds what they take`);
    return plainLimits;
  }
  log.info({ kind: tree.layout.kind, roots: tree.roots, host: hostName }, 'every VM has a control group of its own');
  return groupLimits(tree, { ...DEFAULT_CAP_SETTINGS, ...options.caps }, io);
}

/** @returns the folder name of a host's groups, different for every state directory */
export function hostGroupName(stateDir: string): string {
  return `kiln-${createHash('sha256').update(stateDir).digest('hex').slice(0, 8)}`;
}

/** Makes a group, runs something in it and removes it: a host that fails here would fail for each VM. */
async function proven(tree: GroupTree, io: IoCap | undefined, timeoutMs: number): Promise<GroupTree | NoGroups> {
  const group = groupOf(tree, TRIAL_ID);
  try {
    await makeGroup(tree, TRIAL_ID, groupCaps({ vcpus: 1, memMib: 64 }, DEFAULT_CAP_SETTINGS, io));
    const [file = '', ...args] = launchInGroup({ argv: ['true'] }, procsFiles(group)).argv;
    await run(file, args, { timeout: timeoutMs });
    if (process.getuid?.() === 0) await run('setpriv', ['--version'], { timeout: timeoutMs });
    return tree;
  } catch (error) {
    const said = error instanceof Error ? error.message.trim().replaceAll(/\s+/g, ' ') : String(error);
    return {
      reason: said,
      fix: 'let this worker write there (systemd: Delegate=yes), give it the controllers cpu, memory and pids, and install util-linux; KILN_CGROUPS=off runs VMs without',
    };
  } finally {
    await removeGroup(group, { pollMs: POLL_MS, timeoutMs }).catch(() => undefined);
  }
}

async function ioCap(options: LimitsOptions, tree: GroupTree | undefined): Promise<IoCap | undefined> {
  const { ioBytesPerSecond, stateDir, log } = options;
  if (ioBytesPerSecond === undefined || tree === undefined) return undefined;
  const device = await diskOf(stateDir);
  const lacks = device === undefined ? 'this file system has no disk of its own' : 'there is no controller for it';
  if (device !== undefined && tree.roots.io !== undefined) return { device, bytesPerSecond: ioBytesPerSecond };
  log.warn({ stateDir }, `reads and writes of VMs are not limited: ${lacks}`);
  return undefined;
}
