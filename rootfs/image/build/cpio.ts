import { KilnError } from '../../../domain/failures.ts';

/** One entry of an initramfs. Names are relative (`dev/console`); parents must come before their children. */
export type CpioEntry =
  | { readonly kind: 'file'; readonly name: string; readonly mode: number; readonly data: Buffer }
  | { readonly kind: 'directory'; readonly name: string; readonly mode: number }
  | {
      readonly kind: 'character-device';
      readonly name: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const TYPE_BITS = { file: 0o100000, directory: 0o040000, 'character-device': 0o020000 } as const;

/** @returns a cpio archive (`newc`), owned by root with all times zero, so that equal entries make equal bytes. */
export function packCpio(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.map((entry, index) => packEntry(entry, index + 1));
  const trailer: CpioEntry = { kind: 'file', name: 'TRAILER!!!', mode: 0, data: Buffer.alloc(0) };
  parts.push(packEntry(trailer, 0));
  return Buffer.concat(parts);
}

function packEntry(entry: CpioEntry, inode: number): Buffer {
  if (entry.name === '' || entry.name.startsWith('/') || entry.name.includes('\0')) {
    throw new KilnError('INTERNAL', `bad name in an initramfs: ${JSON.stringify(entry.name)}`);
  }
  const data = entry.kind === 'file' ? entry.data : Buffer.alloc(0);
  const name = Buffer.from(`${entry.name}\0`);
  const [major, minor] = entry.kind === 'character-device' ? [entry.major, entry.minor] : [0, 0];
  const mode = inode === 0 ? 0 : TYPE_BITS[entry.kind] | entry.mode;
  const links = entry.kind === 'directory' ? 2 : 1;
  // Fields: inode mode uid gid links mtime size, device of the file (2), device it stands for (2), name size, checksum.
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, major, minor, name.length, 0];
  const header = Buffer.from(`070701${fields.map(hex8).join('')}`, 'latin1');
  return Buffer.concat([padTo4(Buffer.concat([header, name])), padTo4(data)]);
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, '0');
}

function padTo4(bytes: Buffer): Buffer {
  const missing = (4 - (bytes.length % 4)) % 4;
  return missing === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(missing)]);
}
