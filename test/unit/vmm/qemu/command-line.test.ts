import { describe, expect, it } from 'vitest';
import type { InstanceRecord } from '../../../../contracts/host/instance-record.ts';
import { qemuCommandLine } from '../../../../vmm/qemu/command-line.ts';
import { qemuPaths } from '../../../../vmm/qemu/qemu-paths.ts';
import { vmPaths } from '../../../../vmm/vm-paths.ts';

const record: InstanceRecord = {
  version: 1,
  vmId: 'abc-1-1',
  driver: 'qemu',
  owner: { workflowId: 'workload/a', firstExecutionId: 'x', namespaceId: 'n', epoch: 1, boot: 1, role: 'service' },
  imageDigest: 'sha256:0',
  vcpus: 2,
  memMib: 512,
  kernelPath: '/img/vmlinux',
  initrdPath: '/img/initrd',
  drives: [
    { serial: 'kiln-root', path: '/s/a,b/root.qcow2', format: 'qcow2', readOnly: false },
    { serial: 'kiln-workspace', path: '/s/ws.ext4', format: 'raw', readOnly: true },
  ],
  sockets: { agent: '/run/k/abc-1-1/agent.sock', qmp: '/run/k/abc-1-1/qmp.sock' },
  ports: [],
  createdAt: new Date(0).toISOString(),
};
const paths = qemuPaths(record, vmPaths({ stateDir: '/s', runtimeDir: '/run/k' }, 'abc-1-1'));
const machine = { binary: 'qemu', accel: 'tcg', tbSizeMib: 256, tscKhz: 2_445_404 } as const;

/** Every value of this option. */
const values = (argv: readonly string[], option: string) => argv.filter((_, index) => argv[index - 1] === option);

describe('QEMU command line', () => {
  const argv = qemuCommandLine(record, paths, machine);

  it('gives the guest the rate of the TSC under tcg, and only there', () => {
    expect(values(argv, '-append')[0]).toContain('tsc_early_khz=2445404 tsc=reliable');
    const kvm = qemuCommandLine(record, paths, { ...machine, accel: 'kvm' });
    expect(values(kvm, '-append')[0]).not.toContain('tsc');
    expect(values(kvm, '-accel')).toEqual(['kvm']);
  });

  it('tells the guest at which more ports it reaches names, where there are any', () => {
    const line = (egressPorts: readonly number[]) =>
      values(qemuCommandLine(record, paths, { ...machine, egressPorts }), '-append')[0];
    expect(line([5432, 8080])?.split(' ')).toContain('kiln.egress_ports=5432,8080');
    // Templates that were frozen before are found again.
    expect(line([])).toBe(values(argv, '-append')[0]);
    expect(line([])).not.toContain('kiln.');
  });

  it('hides under tcg, and only there, the instructions that copy bytes slowly when they are emulated', () => {
    expect(values(argv, '-cpu')).toEqual(['max,erms=off,fsrm=off']);
    expect(values(qemuCommandLine(record, paths, { ...machine, accel: 'kvm' }), '-cpu')).toEqual(['host']);
  });

  it('has no word that this kernel cannot boot with', () => {
    for (const word of ['acpi=off', 'noapic', 'nolapic', 'nomodule']) expect(argv.join(' ')).not.toContain(word);
  });

  it('has no network card, and nothing by default', () => {
    expect(argv.filter((word) => /netdev|virtio-net|-nic|vhost/.test(word))).toEqual([]);
    for (const word of ['-nodefaults', '-no-user-config', '-no-reboot']) expect(argv).toContain(word);
  });

  it('is sandboxed', () => {
    expect(values(argv, '-sandbox')).toEqual([
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ]);
  });

  it('names the memory m0, of the asked size', () => {
    expect(values(argv, '-object')).toEqual(['memory-backend-ram,id=m0,size=512M']);
    expect(values(argv, '-machine')[0]).toContain('memory-backend=m0');
    expect(values(argv, '-m')).toEqual(['512M']);
    expect(values(argv, '-smp')).toEqual(['2']);
  });

  it('knows the drives by serial, in order, with commas in paths kept', () => {
    expect(values(argv, '-drive')).toEqual([
      'id=drive0,file=/s/a,,b/root.qcow2,format=qcow2,if=none,cache=writeback,werror=report,rerror=report',
      'id=drive1,file=/s/ws.ext4,format=raw,if=none,cache=writeback,werror=report,rerror=report,read-only=on',
    ]);
    expect(values(argv, '-device').filter((word) => word.startsWith('virtio-blk'))).toEqual([
      'virtio-blk-device,drive=drive0,serial=kiln-root',
      'virtio-blk-device,drive=drive1,serial=kiln-workspace',
    ]);
  });

  it('opens what lies below a disk by descriptor, each once, where the VMM has a user of its own', () => {
    const image = { path: '/img/rootfs.ext4', format: 'raw' } as const;
    const frozen = { path: '/t/root.qcow2', format: 'qcow2' } as const;
    const own: InstanceRecord = {
      ...record,
      uid: 700_000,
      drives: [
        { serial: 'kiln-root', path: '/s/root.qcow2', format: 'qcow2', readOnly: false, backing: [frozen, image] },
        { serial: 'kiln-other', path: '/s/other.qcow2', format: 'qcow2', readOnly: false, backing: [image] },
      ],
    };
    // Descriptors 3 to 5 are the console and the event files, 6 and 7 the disks, 8 and 9 kernel and initrd.
    expect(values(qemuCommandLine(own, paths, machine), '-drive')).toEqual([
      'id=drive0,file=/proc/self/fd/6,format=qcow2,if=none,cache=writeback,werror=report,rerror=report,' +
        'backing.driver=qcow2,backing.file.filename=/proc/self/fd/10,' +
        'backing.backing.driver=raw,backing.backing.file.filename=/proc/self/fd/11',
      'id=drive1,file=/proc/self/fd/7,format=qcow2,if=none,cache=writeback,werror=report,rerror=report,' +
        'backing.driver=raw,backing.file.filename=/proc/self/fd/11',
    ]);
  });

  it('throws writes away only on a trial', () => {
    expect(argv.join(' ')).not.toContain('snapshot=on');
    const trial = qemuCommandLine(record, paths, { ...machine, discardWrites: true });
    expect(values(trial, '-drive').map((word) => word.includes('snapshot=on'))).toEqual([true, false]);
  });

  it('names the agent socket, by which a process without a record is found', () => {
    expect(argv.some((word) => word.includes('path=/run/k/abc-1-1/agent.sock,'))).toBe(true);
    expect(values(argv, '-device')).toContain('virtserialport,chardev=agent,name=kiln.agent.0');
  });
});
