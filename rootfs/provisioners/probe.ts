import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../domain/failures.ts';
import { writeAll } from '../../linux/write-all.ts';
import type { ProvisionedDisk, RootfsProvisioner } from '../../ports/disks.ts';

export type ProbeResult = { ok: true } | { ok: false; reason: string };

const PROBE_VM = 'probe-0-0';
const BASE_BYTES = 8 << 20;

/**
 * Makes one disk over a small sparse base in `directory`, calls `judge` on it, and removes everything again.
 * @param judge throws where the disk is not a usable copy of the base
 */
export async function probeByDoing(
  provisioner: RootfsProvisioner,
  directory: string,
  judge: (disk: ProvisionedDisk, basePath: string) => Promise<void>,
): Promise<ProbeResult> {
  let place: string | undefined;
  try {
    await mkdir(directory, { recursive: true });
    place = await mkdtemp(join(directory, '.probe-'));
    const basePath = join(place, 'base.ext4');
    const data = await writeSparseBase(basePath);
    const disk = await provisioner.provision({
      base: { path: basePath, format: 'raw' },
      directory: place,
      vmId: PROBE_VM,
    });
    await judge(disk, basePath);
    if (!(await readFile(basePath)).subarray(0, data.length).equals(data)) throw new Error('the base was written to');
    await provisioner.release({ directory: place, vmId: PROBE_VM, disks: [] });
    const own = disk.scratch ?? disk;
    if ((await stat(own.path).catch(() => undefined)) !== undefined)
      throw new Error('the disk is still there after its release');
    return { ok: true };
  } catch (error) {
    return { ok: false, reason: messageOf(error) };
  } finally {
    if (place !== undefined) await rm(place, { recursive: true, force: true });
  }
}

async function writeSparseBase(path: string): Promise<Buffer> {
  const data = randomBytes(64 << 10);
  const file = await open(path, 'wx');
  try {
    await writeAll(file, data, 0);
    await file.truncate(BASE_BYTES);
  } finally {
    await file.close();
  }
  return data;
}
