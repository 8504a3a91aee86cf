/** How a run of the chaos looks at its workspace: with the tools of its guest, and none of Kiln's. */
import type { Path, SeenEntry, SeenTree } from './tree.ts';

const BEGIN = '\nwalk:\n';
const END = '\nwalked\n';
const ENTRIES = String.raw`%y\0%m\0%U\0%G\0%T@\0%i\0%P\0%l\0`;

/** A shell function `walk`: everything below the working folder, as `walksOf` reads it. */
export const WALK = [
  'walk() {',
  String.raw`printf '\nwalk:\n';`,
  `find . -path ./lost+found -prune -o -printf '${ENTRIES}';`,
  String.raw`printf '\nsums\n';`,
  'find . -path ./lost+found -prune -o -type f -print0 | xargs -0 -r sha256sum -z;',
  String.raw`printf '\nwalked\n';`,
  '}',
].join('\n');

const KINDS: Readonly<Record<string, SeenEntry['kind']>> = { f: 'file', d: 'folder', l: 'link' };
const FIELDS = 8;
/** Digits of a SHA-256. */
const HEX = 64;

/** @returns the walks of an output that are complete, in their order @throws Error where one is not as it should be */
export function walksOf(output: Buffer): SeenTree[] {
  return output
    .toString('latin1')
    .split(END)
    .slice(0, -1)
    .map((text) => walkOf(text.slice(text.indexOf(BEGIN) + BEGIN.length)));
}

function walkOf(text: string): SeenTree {
  const [listed = '', summed = ''] = text.split('\nsums\n');
  const sums = new Map(fieldsOf(summed).map((line) => [line.slice(HEX + '  ./'.length), line.slice(0, HEX)]));
  const fields = fieldsOf(listed);
  const entries = Array.from({ length: fields.length / FIELDS }, (_, n) => fields.slice(n * FIELDS, (n + 1) * FIELDS));
  const inodes = new Map<string, Path[]>();
  for (const [kind, , , , , inode = '', path = ''] of entries) {
    if (kind === 'f') inodes.set(inode, [...(inodes.get(inode) ?? []), path].sort());
  }
  return new Map(entries.map((entry) => seenOf(entry, sums, inodes)));
}

function seenOf(
  [type = '', mode = '', uid = '', gid = '', time = '', inode = '', path = '', target = '']: readonly string[],
  sums: ReadonlyMap<Path, string>,
  inodes: ReadonlyMap<string, readonly Path[]>,
): [Path, SeenEntry] {
  const kind = KINDS[type];
  if (kind === undefined) throw new Error(`${JSON.stringify(path)} is a ${type}`);
  const common = { kind, mode: Number.parseInt(mode, 8), uid: Number(uid), gid: Number(gid), mtime: nanoseconds(time) };
  if (kind === 'folder') return [path, common];
  if (kind === 'link') return [path, { ...common, target }];
  const sha256 = sums.get(path);
  if (sha256 === undefined) throw new Error(`${JSON.stringify(path)} has no sum`);
  const [first, second] = inodes.get(inode) ?? [];
  return [path, { ...common, sha256, ...(first !== undefined && second !== undefined ? { sameAs: first } : {}) }];
}

const fieldsOf = (text: string): string[] => text.split('\0').slice(0, -1);

/** @param time as find prints it: seconds, and a fraction of ten digits of which the last is 0 */
function nanoseconds(time: string): bigint {
  const [seconds = '', fraction = ''] = time.split('.');
  return BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0'));
}
