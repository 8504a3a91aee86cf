import { describe, expect, it } from 'vitest';
import { commandLineByHand } from '../../../bench/qemu-by-hand.ts';

const argv = [
  ...['qemu', '-name', 'guest=a', '-chardev', 'socket,id=agent,path=/run/a/agent.sock,server=on'],
  ...['-chardev', 'file,id=console,path=/var/a/console.log', '-kernel', '/images/vmlinux'],
  ...['-drive', 'id=drive0,file=/var/a/root.qcow2,format=qcow2,if=none', '-device', 'virtio-blk-device,drive=drive0'],
  ...['-drive', 'id=drive1,file=/var/a/workspace.ext4,format=raw,if=none'],
];
const drives = [
  { path: '/tmp/copy.ext4', format: 'raw' },
  { path: '/tmp/w.qcow2', format: 'qcow2' },
] as const;

describe('the command line of QEMU by hand', () => {
  it('differs from the given one in sockets, logs and drives only', () => {
    expect(commandLineByHand(argv, '/tmp/hand', drives)).toEqual([
      ...['qemu', '-name', 'guest=a', '-chardev', 'socket,id=agent,path=/tmp/hand/agent.sock,server=on'],
      ...['-chardev', 'file,id=console,path=/tmp/hand/console.log', '-kernel', '/images/vmlinux'],
      ...['-drive', 'id=drive0,file=/tmp/copy.ext4,format=raw,if=none', '-device', 'virtio-blk-device,drive=drive0'],
      ...['-drive', 'id=drive1,file=/tmp/w.qcow2,format=qcow2,if=none'],
    ]);
  });

  it('refuses another number of drives', () => {
    expect(() => commandLineByHand(argv, '/tmp/hand', drives.slice(1))).toThrow('more than 1');
    expect(() => commandLineByHand(argv, '/tmp/hand', [...drives, drives[0]])).toThrow('1 drives');
  });
});
