/** A service folder as a tar that is the same whenever its files are the same. */
import { createHash } from 'node:crypto';
import { constants, createWriteStream } from 'node:fs';
import { lstat, open, readdir, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';
import { KilnError } from '../domain/failures.ts';
import { isInside } from './service-folder.ts';

export interface SourceLimits {
  /** Bytes of the tar. */
  readonly maxBytes: number;
  /** Files, folders and links. */
  readonly maxEntries: number;
}

/** Made anew by every build, or no part of the service. */
const LEFT_OUT = new Set(['node_modules', '.git']);
/** One time for all: when a file was checked out does not change what it is. */
const MTIME = new Date(0);

interface Packing {
  readonly folder: string;
  readonly tar: Pack;
  readonly limits: SourceLimits;
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
  limits: SourceLimits,
): Promise<{ sha256: string; bytes: number }> {
  const tar = pack();
  // The pipeline tells what failed; a listener here only keeps the error from ending the process.
  tar.on('error', () => undefined);
  const hash = createHash('sha256');
  let bytes = 0;
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      hash.update(chunk);
      done(bytes > limits.maxBytes ? tooLarge(`more than ${limits.maxBytes} bytes`) : null, chunk);
    },
  });
  const written = pipeline(tar, measure, createWriteStream(tarPath, { flags: 'wx', mode: 0o600 }));
  const packing: Packing = { folder, tar, limits, entries: 0 };
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
  const names = await readdir(join(packing.folder, prefix), { encoding: 'buffer' });
  // Byte order: the same on every file system and in every locale.
  for (const raw of names.sort(Buffer.compare)) {
    const name = raw.toString('utf8');
    if (LEFT_OUT.has(name)) continue;
    if (!Buffer.from(name).equals(raw)) throw new KilnError('SPEC_INVALID', `The file name "${name}" is no UTF-8.`);
    if (++packing.entries > packing.limits.maxEntries) throw tooLarge(`more than ${packing.limits.maxEntries} files`);
    await packEntry(packing, prefix === '' ? name : `${prefix}/${name}`);
  }
}

async function packEntry(packing: Packing, name: string): Promise<void> {
  const path = join(packing.folder, name);
  const found = await lstat(path);
  const common = { mtime: MTIME, uid: 0, gid: 0, uname: '', gname: '' };
  if (found.isDirectory()) {
    await entry(packing.tar, { ...common, name: `${name}/`, type: 'directory', mode: 0o755 });
    await packDirectory(packing, name);
  } else if (found.isSymbolicLink()) {
    const linkname = await readlink(path);
    // A link that leads out means nothing in the guest, or something else.
    if (await leadsInside(packing.folder, path, linkname)) {
      await entry(packing.tar, { ...common, name, type: 'symlink', linkname, mode: 0o777 });
    }
  } else if (found.isFile()) {
    await packFile(packing.tar, path, name, { ...common, mode: (found.mode & 0o111) === 0 ? 0o644 : 0o755 });
  }
  // Sockets, pipes and devices are no source.
}

async function leadsInside(folder: string, path: string, linkname: string): Promise<boolean> {
  if (linkname.startsWith('/')) return false;
  const target = await realpath(path).catch(() => undefined);
  return target !== undefined && isInside(folder, target);
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

/** A tar that is given up (too large, disk full) drains nothing any more. */
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
