import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import type { DriveSpec } from '../../../domain/vm.ts';
import type { FreezeRequest } from '../../../ports/vm-driver.ts';
import { type QemuMachine, qemuCommandLine } from '../command-line.ts';
import { throwawayPaths, throwawayRecord } from './throwaway-guest.ts';

/** Replaces every path in a command line: where files lie does not matter to a guest. */
const PLACE = '/f';

/** Clock rates of hosts that differ by less count as equal. */
const TSC_STEP_KHZ = 10_000;

/**
 * One hash of all that must be the same at a guest's restore as at its freeze: the VMM program, command line without
 * paths, CPU and clock of the host, the image, sizes and formats of the drives.
 * @param versionText the VMM's own version text @param hostCpu model of the host's CPU, where the guest sees it
 */
export async function templateFingerprint(
  spec: FreezeRequest['spec'],
  machine: QemuMachine,
  versionText: string,
  hostCpu: string,
): Promise<string> {
  const drives = await Promise.all(
    spec.drives.map(async (drive) => ({
      serial: drive.serial,
      format: drive.format,
      readOnly: drive.readOnly,
      bytes: String(await virtualBytes(drive)),
    })),
  );
  // A measured rate differs a little each time; the guest keeps the one that it was booted with.
  const tscKhz = Math.round(machine.tscKhz / TSC_STEP_KHZ) * TSC_STEP_KHZ;
  const argv = argvWithoutPlaces(spec, { ...machine, tscKhz });
  const facts = { argv, versionText, hostCpu, image: spec.imageDigest, drives };
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex');
}

function argvWithoutPlaces(spec: FreezeRequest['spec'], machine: QemuMachine): string[] {
  const drives = spec.drives.map(({ serial, format, readOnly }) => ({ serial, format, readOnly, path: PLACE }));
  const placeless = { ...spec, kernelPath: PLACE, initrdPath: PLACE, drives };
  const paths = throwawayPaths(PLACE, PLACE);
  return qemuCommandLine(throwawayRecord('template', placeless, paths), paths, machine);
}

const QCOW2_MAGIC = 0x514649fb;
/** Offset of the size of the disk in the header, after magic, version, and the place of the backing file's name. */
const QCOW2_SIZE_AT = 24;

/** @returns the size that a guest sees: the one in the header of a qcow2 file, or the size of a raw file */
export async function virtualBytes({ path, format }: Pick<DriveSpec, 'path' | 'format'>): Promise<bigint> {
  if (format === 'raw') return (await stat(path, { bigint: true })).size;
  const file = await open(path, 'r');
  try {
    const header = Buffer.alloc(QCOW2_SIZE_AT + 8);
    await file.read(header, 0, header.length, 0);
    if (header.readUInt32BE(0) !== QCOW2_MAGIC) throw new Error(`${path} is no qcow2 file`);
    return header.readBigUInt64BE(QCOW2_SIZE_AT);
  } finally {
    await file.close();
  }
}
