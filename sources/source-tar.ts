/** Reads an untrusted tar of sources: every entry is checked before it is used. */
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, type Header } from 'tar-stream';
import { isKilnError, KilnError, messageOf } from '../domain/failures.ts';
import {
  entryNameProblem,
  linkProblem,
  plainEntryPath,
  type SourceEntryKind,
  sourceEntryKind,
} from '../domain/sources/source-tree.ts';
import type { SourceLimits } from './pack-folder.ts';

/** Receives entries in the order of the tar. Paths are plain: no `.`, no `..`, no `/` at either end. */
export interface SourceSink {
  directory(path: string): Promise<void>;
  /** Must read the content to its end. */
  file(path: string, isExecutable: boolean, content: Readable): Promise<void>;
  link(path: string, target: string): Promise<void>;
}

const BLOCK = 512;
/** Two blocks of zeros end a tar. */
const END_BYTES = 2 * BLOCK;

/**
 * @param tar not compressed
 * @returns number of files and links
 * @throws SPEC_INVALID where the tar is incomplete or holds forbidden entries; PAYLOAD_TOO_LARGE; whatever the stream
 *   or the sink fails with
 */
export async function readSourceTar(
  tar: Readable,
  limits: SourceLimits,
  sink: SourceSink,
): Promise<{ readonly files: number }> {
  const reader = extract();
  // Each failure ends the others as well: only the first is the cause.
  let first: { readonly error: unknown; readonly isOurs: boolean } | undefined;
  const note = (error: unknown, isOurs: boolean): void => {
    first ??= { error, isOurs };
  };
  tar.once('error', (error) => note(error, false));
  reader.once('error', (error) => note(error, true));
  const fed = pipeline(tar, wholeTar(limits.maxBytes), reader);
  fed.catch(() => undefined);
  const tree = new SourceTree(limits.maxEntries);
  try {
    for await (const entry of reader) {
      const deliver = judged(entry.header, tree);
      await deliver(sink, Readable.from(entry, { objectMode: false })).catch((error: unknown) => {
        note(error, false);
        throw error;
      });
    }
    await fed;
  } catch (error) {
    note(error, true);
    // The stream must be closed before the caller removes the file it reads.
    await fed.catch(() => undefined);
    const told = first?.error ?? error;
    if (isKilnError(told) || first?.isOurs !== true) throw told;
    throw unreadable(messageOf(told));
  }
  if (tree.files === 0) throw new KilnError('SPEC_INVALID', 'The tar holds no file; pack the folder of the service.');
  return { files: tree.files };
}

/** Every path of a tar, with the folders that it only implies. */
class SourceTree {
  files = 0;
  private readonly kinds = new Map<string, SourceEntryKind>();
  private readonly named = new Set<string>();
  private readonly maxEntries: number;

  constructor(maxEntries: number) {
    this.maxEntries = maxEntries;
  }

  /** @throws SPEC_INVALID where the path occurred before, or lies below something that is not a folder */
  add(path: string, kind: SourceEntryKind): void {
    this.addAbove(path);
    const known = this.kinds.get(path);
    if (this.named.has(path) || (known !== undefined && known !== kind)) throw refused(path, 'is there twice');
    this.named.add(path);
    this.kinds.set(path, kind);
    if (kind !== 'directory') this.files++;
    if (this.kinds.size > this.maxEntries) {
      throw new KilnError('PAYLOAD_TOO_LARGE', `The tar holds more than ${this.maxEntries} files and folders.`);
    }
  }

  /** From the path upwards to the first folder that is known: above that one all are. Deep trees cost no more than flat ones. */
  private addAbove(path: string): void {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const above = path.slice(0, end);
      const kind = this.kinds.get(above);
      if (kind === 'directory') return;
      if (kind !== undefined) throw refused(path, `lies below ${shown(above)}, which is no folder`);
      this.kinds.set(above, 'directory');
    }
  }
}

type Deliver = (sink: SourceSink, content: Readable) => Promise<void>;

/** @returns how to treat an entry. @throws SPEC_INVALID */
function judged({ name, linkname, size, mode, type, pax }: Header, tree: SourceTree): Deliver {
  const kind = sourceEntryKind(type);
  if (kind === undefined) throw refused(name, notAllowed(type));
  const wrong = entryNameProblem(name);
  if (wrong !== undefined) throw refused(name, wrong);
  if (Object.keys(pax ?? {}).some((key) => key.startsWith('GNU.sparse'))) {
    throw refused(name, 'is stored as a sparse file; pack without --sparse');
  }
  if (kind !== 'file' && size !== 0) throw refused(name, 'has content, although it is no file');
  const path = plainEntryPath(name);
  if (path === '') {
    if (kind === 'directory') return (_sink, entry) => drained(entry);
    throw refused(name, 'has no name');
  }
  const target = kind === 'symlink' ? linkname : '';
  const astray = kind === 'symlink' ? linkProblem(path, target) : undefined;
  if (astray !== undefined) throw refused(name, astray);
  tree.add(path, kind);
  if (kind === 'file') return (sink, entry) => sink.file(path, (mode & 0o111) !== 0, entry);
  return async (sink, entry) => {
    await drained(entry);
    await (kind === 'directory' ? sink.directory(path) : sink.link(path, target));
  };
}

async function drained(entry: Readable): Promise<void> {
  for await (const _ of entry);
}

/** Passes a tar on, bounded, and fails at its end where it was cut off. */
function wholeTar(maxBytes: number): Transform {
  let bytes = 0;
  let tail: Buffer = Buffer.alloc(0);
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      tail = chunk.length >= END_BYTES ? chunk.subarray(-END_BYTES) : Buffer.concat([tail, chunk]).subarray(-END_BYTES);
      if (bytes <= maxBytes) return done(null, chunk);
      done(
        new KilnError('PAYLOAD_TOO_LARGE', `The tar has more than ${maxBytes} bytes; leave out what is not needed.`),
      );
    },
    flush(done) {
      const isWhole = bytes % BLOCK === 0 && tail.length === END_BYTES && tail.every((byte) => byte === 0);
      done(isWhole ? null : unreadable('its end is missing'));
    },
  });
}

function notAllowed(type: string | null): string {
  if (type === 'link') return 'is a hard link; pack with --hard-dereference';
  return `is a ${type ?? 'thing of an unknown kind'}; sources hold files, folders and symbolic links only`;
}

function refused(name: string, why: string): KilnError {
  return new KilnError('SPEC_INVALID', `The entry ${shown(name)} ${why}.`, { entry: shown(name) });
}

function shown(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
}

function unreadable(why: string): KilnError {
  return new KilnError('SPEC_INVALID', `The sources are no whole tar (${why}); pack them again.`);
}
