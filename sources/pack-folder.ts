/** A folder as a tar that is the same whenever its files are the same. */
import { createHash } from 'node:crypto';
import { constants, createWriteStream, type Stats } from 'node:fs';
import { lstat, open, readdir, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';
import { KilnError } from '../domain/failures.ts';
import { entryNameProblem, IGNORE_FILES, linkProblem, type SourceEntryKind } from '../domain/sources/source-tree.ts';
import { isInside } from './path-inside.ts';

export interface SourceLimits {
  /** Bytes of the tar. */
  readonly maxBytes: number;
  /** Files, folders and links. */
  readonly maxEntries: number;
}

/** @returns whether an entry of one folder is packed. */
export type EntryChoice = (name: string, kind: SourceEntryKind) => boolean;

export interface PackOptions extends SourceLimits {
  /**
   * Asked once for each folder.
   * @param prefix plain path of the folder below the packed one; empty for itself
   */
  readonly choose: (prefix: string) => Promise<EntryChoice>;
  /** How to treat a symbolic link that leads out of the folder. */
  readonly outsideLinks: 'leave-out' | 'refuse';
  /** Called with each entry before it is packed; if it throws, the packing ends. */
  readonly onEntry?: (entry: PackedEntry) => Promise<void> | void;
}

export interface PackedEntry {
  readonly path: string;
  readonly kind: SourceEntryKind;
  /** Of a file; 0 for others. */
  readonly bytes: number;
}

/** One time for all files: the checkout time must not change the tar. */
const MTIME = new Date(0);

interface Packing {
  readonly folder: string;
  readonly tar: Pack;
  readonly options: PackOptions;
  entries: number;
}

/**
 * Packs a folder into a new file.
 * @param folder real absolute path
 * @returns digest (hex) and length of the tar
 * @throws PAYLOAD_TOO_LARGE, SPEC_INVALID where a file changes while it is read
 */
export async function packFolder(
  folder: string,
  tarPath: string,
  options: PackOptions,
): Promise<{ sha256: string; bytes: number }> {
  const tar = pack();
  // The pipeline reports the failure; a listener here only keeps the error from ending the process.
  tar.on('error', () => undefined);
  const hash = createHash('sha256');
  let bytes = 0;
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      hash.update(chunk);
      done(bytes > options.maxBytes ? tooLarge(`more than ${options.maxBytes} bytes`) : null, chunk);
    },
  });
  const written = pipeline(tar, measure, createWriteStream(tarPath, { flags: 'wx', mode: 0o600 }));
  const packing: Packing = { folder, tar, options, entries: 0 };
  const filled = packDirectory(packing, '').then(
    () => tar.finalize(),
    (error: unknown) => tar.destroy(error instanceof Error ? error : new Error(String(error))),
  );
  // The packing must be over, too, before the caller removes anything.
  const [outcome] = await Promise.allSettled([written, filled]);
  if (outcome.status === 'rejected') throw outcome.reason;
  return { sha256: hash.digest('hex'), bytes };
}

async function packDirectory(packing: Packing, prefix: string): Promise<void> {
  const { folder, options } = packing;
  const isChosen = await options.choose(prefix);
  const names = await readdir(join(folder, prefix), { encoding: 'buffer' });
  // Byte order: the same on every file system and in every locale.
  for (const raw of names.sort(Buffer.compare)) {
    const name = raw.toString('utf8');
    if (!Buffer.from(name).equals(raw)) throw new KilnError('SPEC_INVALID', `The file name "${name}" is no UTF-8.`);
    const path = prefix === '' ? name : `${prefix}/${name}`;
    const found = await lstat(join(folder, path));
    const kind = kindOf(found);
    if (kind === undefined || !isChosen(name, kind)) continue;
    await packEntry(packing, { path, kind, bytes: kind === 'file' ? found.size : 0 }, found.mode);
  }
}

/** Sockets, pipes and devices are no source. */
function kindOf(found: Stats): SourceEntryKind | undefined {
  if (found.isDirectory()) return 'directory';
  if (found.isSymbolicLink()) return 'symlink';
  return found.isFile() ? 'file' : undefined;
}

async function packEntry(packing: Packing, packed: PackedEntry, mode: number): Promise<void> {
  const { folder, tar, options } = packing;
  const { path, kind } = packed;
  const common = { mtime: MTIME, uid: 0, gid: 0, uname: '', gname: '' };
  const linkname = kind === 'symlink' ? await insideTarget(packing, path) : undefined;
  if (kind === 'symlink' && linkname === undefined) return;
  const wrong = entryNameProblem(path);
  if (wrong !== undefined) throw new KilnError('SPEC_INVALID', `The path ${JSON.stringify(path)} ${wrong}; rename it.`);
  if (++packing.entries > options.maxEntries) throw tooLarge(`more than ${options.maxEntries} files`);
  await options.onEntry?.(packed);
  if (kind === 'directory') {
    await entry(tar, { ...common, name: `${path}/`, type: 'directory', mode: 0o755 });
    await packDirectory(packing, path);
  } else if (linkname !== undefined) {
    await entry(tar, { ...common, name: path, type: 'symlink', linkname, mode: 0o777 });
  } else {
    await packFile(tar, join(folder, path), path, { ...common, mode: (mode & 0o111) === 0 ? 0o644 : 0o755 });
  }
}

/** In the guest, a link that leads out is broken or leads elsewhere. @returns the target where it stays inside */
async function insideTarget({ folder, options }: Packing, path: string): Promise<string | undefined> {
  const target = await readlink(join(folder, path));
  const real = await realpath(join(folder, path)).catch(() => undefined);
  const isKept = !target.startsWith('/') && real !== undefined && isInside(folder, real);
  if (options.outsideLinks === 'leave-out') return isKept ? target : undefined;
  const problem = linkProblem(path, target) ?? (isKept ? undefined : 'leads nowhere in the folder');
  if (problem === undefined) return target;
  throw new KilnError(
    'SPEC_INVALID',
    `The link ${path} → ${target} ${problem}; put what it leads to in its place, or name it in ${IGNORE_FILES[0]}.`,
  );
}

type Header = Parameters<Pack['entry']>[0];
type Sink = ReturnType<Pack['entry']>;

function entry(tar: Pack, header: Header): Promise<void> {
  return new Promise((resolve, reject) => {
    tar.entry(header, (error) => (error ? reject(error) : resolve()));
  });
}

async function packFile(tar: Pack, path: string, name: string, header: Omit<Header, 'name'>): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = await handle.stat();
    const finished = Promise.withResolvers<void>();
    finished.promise.catch(() => undefined);
    const sink = tar.entry({ ...header, name, type: 'file', size }, (error) =>
      error ? finished.reject(error) : finished.resolve(),
    );
    sink.on('error', () => undefined);
    const read =
      size === 0 ? 0 : await copyInto(sink, handle.createReadStream({ autoClose: false, end: size - 1 }), tar);
    if (read !== size) throw new KilnError('SPEC_INVALID', `${name} changed while it was packed; try again.`);
    sink.end(undefined);
    await finished.promise;
  } finally {
    await handle.close();
  }
}

async function copyInto(sink: Sink, from: Readable, tar: Pack): Promise<number> {
  let read = 0;
  for await (const chunk of from) {
    const data: Buffer = chunk;
    read += data.length;
    if (!sink.write(data)) await drained(sink, tar);
  }
  return read;
}

/** An abandoned tar (too large, disk full) no longer drains. */
function drained(sink: Sink, tar: Pack): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (work: () => void) => () => {
      sink.removeListener('drain', onDrain);
      tar.removeListener('close', onClose);
      work();
    };
    const onDrain = settle(resolve);
    const onClose = settle(() => reject(new Error('the tar was given up')));
    sink.once('drain', onDrain);
    tar.once('close', onClose);
  });
}

function tooLarge(what: string): KilnError {
  return new KilnError(
    'PAYLOAD_TOO_LARGE',
    `The service has ${what} (node_modules and .git not counted); take out of its folder what it does not need.`,
  );
}
