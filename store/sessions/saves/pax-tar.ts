/**
 * Tars in the pax format (POSIX.1-2001), of entries whose names and attributes are bytes: libraries write them as text,
 * and files of agents have names that are none.
 */

export interface TarEntry {
  readonly type: 'file' | 'folder' | 'symlink' | 'hardlink';
  /** One character for each byte, like every name here. */
  readonly name: string;
  /** 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes that follow the header; 0 for everything but a file. */
  readonly size: number;
  /** ns since 1970. */
  readonly mtimeNs: bigint;
  readonly target?: string;
  /** Values in base64. */
  readonly xattrs?: Readonly<Record<string, string>>;
}

export const TAR_BLOCK = 512;
const TYPES = { file: '0', hardlink: '1', symlink: '2', folder: '5', attributes: 'x' } as const;

/** Two empty blocks. */
export const END_OF_TAR = Buffer.alloc(2 * TAR_BLOCK);

/** @returns what comes before the content of an entry */
export function tarHeaderOf(entry: TarEntry): Buffer {
  const attributes = Buffer.concat(attributesOf(entry).map(([name, value]) => attributeLine(name, value)));
  const { type, mode, uid, gid, size } = entry;
  const mtime = clamped(Number(entry.mtimeNs / 1_000_000_000n), OCTAL_11);
  return Buffer.concat([
    block({ type: TYPES.attributes, mode: 0o644, uid: 0, gid: 0, size: attributes.length, mtime: 0 }),
    attributes,
    paddingAfter(attributes.length),
    block({
      type: TYPES[type],
      mode,
      uid: clamped(uid, OCTAL_7),
      gid: clamped(gid, OCTAL_7),
      size: clamped(size, OCTAL_11),
      mtime,
    }),
  ]);
}

/** @returns the zeros that fill the last block of a content */
export function paddingAfter(bytes: number): Buffer {
  return Buffer.alloc((TAR_BLOCK - (bytes % TAR_BLOCK)) % TAR_BLOCK);
}

/** Everything that a header may have no room for. */
function attributesOf({ name, uid, gid, size, mtimeNs, target, xattrs = {} }: TarEntry): [string, Buffer][] {
  return [
    ['path', Buffer.from(name, 'latin1')],
    ...(target === undefined ? [] : [['linkpath', Buffer.from(target, 'latin1')] as [string, Buffer]]),
    ['uid', Buffer.from(String(uid))],
    ['gid', Buffer.from(String(gid))],
    ['size', Buffer.from(String(size))],
    ['mtime', Buffer.from(secondsOf(mtimeNs))],
    ...Object.entries(xattrs).map(([key, value]): [string, Buffer] => [
      `SCHILY.xattr.${attributeName(key)}`,
      Buffer.from(value, 'base64'),
    ]),
  ];
}

/** Names end at the first `=`: GNU tar writes one of theirs so. */
const attributeName = (name: string) => name.replaceAll('%', '%25').replaceAll('=', '%3D');

/** `LENGTH NAME=VALUE` and a line end; the length counts its own digits, too. */
function attributeLine(name: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${name}=`), value, Buffer.from('\n')]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function secondsOf(ns: bigint): string {
  const size = ns < 0n ? -ns : ns;
  const fraction = String(size % 1_000_000_000n).padStart(9, '0');
  return `${ns < 0n ? '-' : ''}${size / 1_000_000_000n}.${fraction}`;
}

const OCTAL_7 = 0o7777777;
const OCTAL_11 = 0o77777777777;

const clamped = (value: number, max: number) => Math.min(Math.max(0, value), max);

interface Block {
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
}

/** The name here is for readers that know no attributes. */
function block({ type, mode, uid, gid, size, mtime }: Block): Buffer {
  const header = Buffer.alloc(TAR_BLOCK);
  const put = (text: string, at: number) => header.write(text, at, 'latin1');
  const octal = (value: number, digits: number, at: number) => put(value.toString(8).padStart(digits, '0'), at);
  put(type === TYPES.attributes ? 'attributes' : 'entry', 0);
  octal(mode, 7, 100);
  octal(uid, 7, 108);
  octal(gid, 7, 116);
  octal(size, 11, 124);
  octal(mtime, 11, 136);
  put(' '.repeat(8), 148);
  put(type, 156);
  if (type === TYPES.hardlink || type === TYPES.symlink) put('entry', 157);
  put('ustar\u000000', 257);
  let sum = 0;
  for (const byte of header) sum += byte;
  put(`${sum.toString(8).padStart(6, '0')}\u0000 `, 148);
  return header;
}
