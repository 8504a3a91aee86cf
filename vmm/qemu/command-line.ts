import { dirname, join } from 'node:path';
import type { InstanceRecord } from '../../contracts/host/instance-record.ts';
import { descriptorPath, type VmFiles } from '../vm-user.ts';
import type { QemuPaths } from './qemu-paths.ts';

export interface QemuMachine {
  readonly binary: string;
  readonly accel: 'kvm' | 'tcg';
  /** Size of the translation cache; only for tcg. */
  readonly tbSizeMib: number;
  /** Rate of the host's TSC; only for tcg. */
  readonly tscKhz: number;
  /** Whether writes to the drives are thrown away at the end. */
  readonly discardWrites?: boolean;
  /** Ports at which the guest reaches names besides 80 and 443; default: none. */
  readonly egressPorts?: readonly number[];
  /** File that is the guest's memory, for a guest that is to be frozen. */
  readonly memoryFile?: string;
}

/** @returns every file of a VM that its VMM opens. */
export function qemuFiles(record: InstanceRecord, paths: QemuPaths, memoryFile?: string): VmFiles {
  const { drives, template } = record;
  const below = [...new Set(drives.flatMap(({ backing }) => backing ?? []).map(({ path }) => path))];
  // A template's disks lie beside its memory.
  const isFrozen = (path: string) => template !== undefined && dirname(path) === dirname(template.memoryPath);
  return {
    own: [
      ...(memoryFile === undefined ? [] : [memoryFile]),
      paths.consoleLog,
      join(paths.directory, EVENT_FILES.input),
      join(paths.directory, EVENT_FILES.output),
      ...drives.filter(({ readOnly }) => !readOnly).map(({ path }) => path),
    ],
    shared: [
      record.kernelPath,
      record.initrdPath,
      ...drives.filter(({ readOnly }) => readOnly).map(({ path }) => path),
      ...below.filter((path) => !isFrozen(path)),
    ],
    frozen: template === undefined ? [] : [template.memoryPath, ...below.filter(isFrozen)],
  };
}

/**
 * How the VMM opens its files: by their names, or, where it runs as a user of its own, by descriptors.
 * @param pipe name of the two event files without their endings
 */
interface FileNames {
  readonly of: (path: string) => string;
  readonly pipe: string;
  readonly byDescriptor: boolean;
}

function fileNames(record: InstanceRecord, paths: QemuPaths, { memoryFile }: QemuMachine): FileNames {
  if (record.uid === undefined)
    return { of: (path) => path, pipe: join(paths.directory, EVENT_FILES.pipe), byDescriptor: false };
  const files = qemuFiles(record, paths, memoryFile);
  return {
    of: (path) => descriptorPath(files, path),
    pipe: join(paths.runtimeDirectory, EVENT_FILES.pipe),
    byDescriptor: true,
  };
}

/** Name of the port on which the guest's agent serves. */
export const AGENT_PORT = 'kiln.agent.0';

/** Files of the event monitor: QEMU reads commands from the first and writes events to the second. */
export const EVENT_FILES = { pipe: 'events', input: 'events.in', output: 'events.out' } as const;

/**
 * The whole command line of one VM. Pure: equal input gives equal words, so it can be part of a template's fingerprint.
 * No network card, no monitor but QMP, no spawning, nothing of QEMU's defaults.
 */
export function qemuCommandLine(record: InstanceRecord, paths: QemuPaths, machine: QemuMachine): string[] {
  const files = fileNames(record, paths, machine);
  return [
    machine.binary,
    ...['-name', `guest=${record.vmId},process=kiln-${record.vmId}`],
    ...accelerator(machine),
    ...['-smp', `${record.vcpus}`, '-m', `${record.memMib}M`],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    // The name of the memory is part of a saved state: it must be m0 in every VM.
    ...['-object', memory(record, machine, files)],
    ...['-machine', 'microvm,rtc=on,x-option-roms=off,memory-backend=m0'],
    ...[
      '-kernel',
      files.of(record.kernelPath),
      '-initrd',
      files.of(record.initrdPath),
      '-append',
      kernelCommandLine(machine),
    ],
    ...['-chardev', `socket,id=qmp,path=${paths.qmpSocket},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', `pipe,id=events,path=${quoted(files.pipe)}`],
    ...['-mon', 'chardev=events,mode=control'],
    ...[
      '-chardev',
      `file,id=console,path=${quoted(files.of(paths.consoleLog))},append=on`,
      '-serial',
      'chardev:console',
    ],
    ...record.drives.flatMap((drive, index) => driveWords(drive, index, files, machine.discardWrites ?? false)),
    ...['-device', 'virtio-serial-device,max_ports=4'],
    ...['-chardev', `socket,id=agent,path=${paths.agentSocket},server=on,wait=off`],
    ...['-device', `virtserialport,chardev=agent,name=${AGENT_PORT}`],
    ...['-device', 'virtio-rng-device'],
    // Waits for a command that names the stream, because what may be in the stream must be set before.
    ...(record.template === undefined ? [] : ['-incoming', 'defer']),
  ];
}

/**
 * A guest that is frozen leaves its memory in a file; each clone maps that file and keeps its own writes to itself.
 * QEMU before 8.2 cannot open it read-only.
 */
function memory(record: InstanceRecord, { memoryFile }: QemuMachine, files: FileNames): string {
  const size = `size=${record.memMib}M`;
  const file = (path: string, share: 'on' | 'off') =>
    `memory-backend-file,id=m0,${size},mem-path=${quoted(files.of(path))},share=${share}`;
  if (memoryFile !== undefined) return file(memoryFile, 'on');
  if (record.template !== undefined) return file(record.template.memoryPath, 'off');
  return `memory-backend-ram,id=m0,${size}`;
}

/**
 * `erms` and `fsrm` tell a guest that copying byte by byte with one instruction is fast. TCG emulates that instruction one
 * byte at a time, so under it they are hidden: Linux and glibc then copy and clear words and vectors. Measured: a boot
 * takes a tenth to a quarter less CPU time, copying files a third to a half.
 */
function accelerator(machine: QemuMachine): string[] {
  if (machine.accel === 'kvm') return ['-accel', 'kvm', '-cpu', 'host'];
  return ['-accel', `tcg,thread=multi,tb-size=${machine.tbSizeMib}`, '-cpu', 'max,erms=off,fsrm=off'];
}

/**
 * `tsc_early_khz`: this machine has neither HPET nor PM timer, so Linux would measure its TSC against the PIT, which
 * fails at random under TCG, and the guest then stops silently. `tsc=reliable`: otherwise it checks the TSC against
 * its tick counter, which falls behind on a busy host; it then uses that counter instead, and its clocks run several
 * percent wrong. Under KVM the guest uses kvmclock.
 */
function kernelCommandLine(machine: QemuMachine): string {
  const { egressPorts = [] } = machine;
  const clock = machine.accel === 'tcg' ? [`tsc_early_khz=${machine.tscKhz} tsc=reliable`] : [];
  return [
    'console=ttyS0 quiet loglevel=0',
    'reboot=t panic=-1',
    'net.ifnames=0',
    ...clock,
    // Without such ports the words are those of the templates that exist.
    ...(egressPorts.length === 0 ? [] : [`kiln.egress_ports=${egressPorts.join(',')}`]),
    'rcupdate.rcu_expedited=1 cryptomgr.notests audit=0',
  ].join(' ');
}

function driveWords(
  drive: InstanceRecord['drives'][number],
  index: number,
  files: FileNames,
  discardWrites: boolean,
): string[] {
  const id = `drive${index}`;
  const options = [
    `id=${id}`,
    `file=${quoted(files.of(drive.path))}`,
    `format=${drive.format}`,
    'if=none',
    'cache=writeback',
    // By default a full disk of the host stops the guest silently: report the error to the guest instead.
    'werror=report,rerror=report',
  ];
  // With names, QEMU finds the backing files in the disk itself.
  if (files.byDescriptor) {
    for (const [depth, below] of (drive.backing ?? []).entries()) {
      const prefix = 'backing.'.repeat(depth + 1);
      options.push(`${prefix}driver=${below.format}`, `${prefix}file.filename=${quoted(files.of(below.path))}`);
    }
  }
  if (drive.readOnly) options.push('read-only=on');
  if (discardWrites && !drive.readOnly) options.push('snapshot=on');
  return ['-drive', options.join(','), '-device', `virtio-blk-device,drive=${id},serial=${drive.serial}`];
}

/** QEMU splits options at commas; a doubled comma is a comma in the value. */
function quoted(value: string): string {
  return value.replaceAll(',', ',,');
}
