import { constants } from 'node:fs';
import { access, open, readFile, stat } from 'node:fs/promises';
import { isErrno } from '../../linux/errno.ts';

/** @returns the group by which users other than root may open a KVM device; undefined where none may */
export async function kvmGroup(device: string = LINUX.device): Promise<number | undefined> {
  const { mode, gid } = await stat(device);
  return (mode & 0o060) === 0o060 && gid !== 0 ? gid : undefined;
}

/** Why KVM is impossible on this machine, as known before any guest was tried. */
export type KvmHostReason = 'absent' | 'denied' | 'busy' | 'pvm' | 'no-cpu-support';

export interface KvmHostPaths {
  readonly device: string;
  readonly modules: string;
  readonly cpuinfo: string;
}

const LINUX: KvmHostPaths = { device: '/dev/kvm', modules: '/sys/module', cpuinfo: '/proc/cpuinfo' };

/**
 * First check of KVM. A device that opens proves little: under `kvm_pvm` every check passes and no real guest runs. So
 * undefined means only "worth a trial boot".
 * @param ignorePvm for those who know that their host's pvm runs real guests: the trial decides then
 * @param byOthers whether users other than this one have to open the device
 */
export async function kvmHostObjection(
  ignorePvm: boolean,
  paths: KvmHostPaths = LINUX,
  byOthers = false,
): Promise<KvmHostReason | undefined> {
  const denied = await openObjection(paths.device);
  if (denied !== undefined) return denied;
  if (byOthers && (await kvmGroup(paths.device)) === undefined) return 'denied';
  if (ignorePvm) return undefined;
  const loaded = (name: string) => exists(`${paths.modules}/${name}`);
  if (await loaded('kvm_pvm')) return 'pvm';
  if (!(await loaded('kvm_intel')) && !(await loaded('kvm_amd'))) return 'no-cpu-support';
  const flags = /^flags\s*:.*\b(vmx|svm)\b/m.test(await readFile(paths.cpuinfo, 'utf8'));
  return flags ? undefined : 'no-cpu-support';
}

async function openObjection(device: string): Promise<KvmHostReason | undefined> {
  try {
    await (await open(device, constants.O_RDWR)).close();
    return undefined;
  } catch (error) {
    if (isErrno(error, 'EACCES', 'EPERM')) return 'denied';
    return isErrno(error, 'EBUSY') ? 'busy' : 'absent';
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
