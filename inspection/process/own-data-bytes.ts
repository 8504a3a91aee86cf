import { readFileSync } from 'node:fs';

/** @returns private memory of this process, bytes: `VmData` of proc(5), which is what RLIMIT_DATA bounds */
export function ownDataBytes(): number {
  const name = 'VmData:';
  const line = readFileSync('/proc/self/status', 'latin1')
    .split('\n')
    .find((text) => text.startsWith(name));
  return Number.parseInt(line?.slice(name.length) ?? '0', 10) * 1024;
}
