/**
 * Workspaces in memory, one a VM, saved and restored as a guest's agent does it: with an index of the last save, chunks
 * before the entry that needs them, and only what differs where the caller has the same save.
 */
import { createHash } from 'node:crypto';
import { defined } from '../../../domain/defined.ts';
import { KilnError } from '../../../domain/failures.ts';
import {
  bytesOfEntry,
  type Chunk,
  folderOf,
  type SkippedPath,
  type WorkspaceEntry,
} from '../../../domain/session/workspace.ts';
import type { RestoreRecord, SaveRecord, SaveRequest, WorkspaceAgent } from '../../../ports/guest-agent.ts';

interface Node {
  readonly type: 'file' | 'folder' | 'symlink';
  /** Content of a file, text of a link. */
  data: Buffer;
  mode: number;
  mtimeNs: string;
  xattrs?: Readonly<Record<string, string>>;
}

interface Index {
  readonly saveId: string;
  readonly saltHex: string;
  readonly entries: ReadonlyMap<string, string>;
  readonly chunks: ReadonlySet<string>;
}

export interface FakeWorkspace extends WorkspaceAgent {
  /** Writes a file; its folders are made. A file that has several names keeps them. */
  write(path: string, content: string | Buffer, more?: { readonly mode?: number }): void;
  folder(path: string): void;
  symlink(path: string, target: string): void;
  hardlink(path: string, target: string): void;
  setXattrs(path: string, xattrs: Readonly<Record<string, string>>): void;
  /** With all that is below it. */
  remove(path: string): void;
  rename(from: string, to: string): void;
  /** @returns a line for each path, with all that a save keeps; a file's content as its SHA-256 */
  walk(): string[];
  read(path: string): Buffer | undefined;
  isFile(path: string): boolean;
  /** What the next saves list as left out. */
  skipped: SkippedPath[];
  /** Files that the next saves say have changed while they were read. */
  changed: number;
  /** Whether saves so far had only what differs, in order. */
  readonly deltas: readonly boolean[];
}

export interface FakeWorkspaces {
  agent(vmId: string): Promise<WorkspaceAgent>;
  of(vmId: string): FakeWorkspace;
}

/** @param chunkBytes length of each chunk but the last of a file */
export function createFakeWorkspaces({
  chunkBytes = 256 * 1024,
}: {
  readonly chunkBytes?: number;
} = {}): FakeWorkspaces {
  const all = new Map<string, FakeWorkspace>();
  const of = (vmId: string) => {
    const known = all.get(vmId) ?? new MemoryWorkspace(chunkBytes);
    all.set(vmId, known);
    return known;
  };
  return { of, agent: async (vmId) => of(vmId) };
}

class MemoryWorkspace implements FakeWorkspace {
  skipped: SkippedPath[] = [];
  changed = 0;
  readonly deltas: boolean[] = [];
  private readonly chunkBytes: number;
  private nodes = new Map<string, Node>([['', folder(0)]]);
  private index: Index | undefined;
  private clock = 0;

  constructor(chunkBytes: number) {
    this.chunkBytes = chunkBytes;
  }

  write(path: string, content: string | Buffer, { mode = 0o644 }: { readonly mode?: number } = {}): void {
    const data = Buffer.from(content);
    const known = this.nodes.get(path);
    if (known?.type === 'file') Object.assign(known, { data, mode, mtimeNs: this.now() });
    else this.put(path, { type: 'file', data, mode, mtimeNs: this.now() });
  }

  folder(path: string): void {
    if (this.nodes.get(path)?.type !== 'folder') this.put(path, folder(++this.clock));
  }

  symlink(path: string, target: string): void {
    this.put(path, { type: 'symlink', data: Buffer.from(target, 'latin1'), mode: 0, mtimeNs: this.now() });
  }

  hardlink(path: string, target: string): void {
    const node = this.nodes.get(target);
    if (node?.type !== 'file') throw new Error(`${target} is no file`);
    this.put(path, node);
  }

  setXattrs(path: string, xattrs: Readonly<Record<string, string>>): void {
    const node = this.nodes.get(path);
    if (node !== undefined) Object.assign(node, { xattrs });
  }

  remove(path: string): void {
    for (const name of this.below(path)) this.nodes.delete(name);
  }

  rename(from: string, to: string): void {
    const moved = this.below(from).map((name) => [name, this.nodes.get(name)] as const);
    this.remove(from);
    for (const [name, node] of moved) if (node !== undefined) this.put(to + name.slice(from.length), node);
  }

  read(path: string): Buffer | undefined {
    return this.nodes.get(path)?.data;
  }

  isFile(path: string): boolean {
    return this.nodes.get(path)?.type === 'file';
  }

  walk(): string[] {
    return this.entries(Buffer.alloc(0)).map(({ entry, data }) => {
      const { chunks: _, ...rest } = { chunks: undefined, ...entry };
      const content = entry.type === 'file' ? createHash('sha256').update(data).digest('hex') : '';
      return `${JSON.stringify(rest)} ${content}`;
    });
  }

  async *saveWorkspace({ saveId, baseSaveId, saltHex }: SaveRequest): AsyncGenerator<SaveRecord> {
    const base = this.index?.saveId === baseSaveId && this.index?.saltHex === saltHex ? this.index : undefined;
    this.index = base;
    this.deltas.push(base !== undefined);
    yield { kind: 'opened', delta: base !== undefined };
    const entries = this.entries(Buffer.from(saltHex, 'hex'));
    const next = { entries: new Map<string, string>(), chunks: new Set<string>() };
    const total = { bytes: 0, files: 0, sentChunks: 0, sentBytes: 0 };
    const sent = new Set<string>();
    for (const { entry } of entries) {
      next.entries.set(entry.path, JSON.stringify(entry));
      total.bytes += bytesOfEntry(entry);
      total.files += entry.type === 'file' ? 1 : 0;
    }
    const paths = new Set([...next.entries.keys(), ...(base?.entries.keys() ?? [])]);
    const byPath = new Map(entries.map((each) => [each.entry.path, each]));
    for (const path of [...paths].sort(byBytes)) {
      const found = byPath.get(path);
      if (found === undefined) {
        yield { kind: 'removed', path };
        continue;
      }
      const isSame = base?.entries.get(path) === next.entries.get(path);
      for (const { id, data } of chunksOf(found)) {
        next.chunks.add(id);
        if (isSame || base?.chunks.has(id) || sent.has(id)) continue;
        sent.add(id);
        total.sentBytes += data.length;
        yield { kind: 'chunk', data };
      }
      if (!isSame) yield { kind: 'entry', entry: found.entry };
    }
    for (const skipped of this.skipped) yield { kind: 'skipped', skipped };
    this.index = { saveId, saltHex, ...next };
    const { skipped, changed } = this;
    const counts = { readFiles: 0, readBytes: 0, scanMs: 0, totalMs: 0, changed, skipped: skipped.length };
    const summary = { ...total, ...counts, entries: entries.length, sentChunks: sent.size };
    yield { kind: 'done', summary };
  }

  async restoreWorkspace(
    { saveId, saltHex }: Omit<SaveRequest, 'baseSaveId'>,
    records: AsyncIterable<RestoreRecord>,
  ): Promise<{ readonly entries: number; readonly bytes: number }> {
    this.index = undefined;
    this.nodes = new Map([['', folder(0)]]);
    const salt = Buffer.from(saltHex, 'hex');
    let waiting: { entry: WorkspaceEntry & { type: 'file' }; parts: Buffer[]; at: number } | undefined;
    const fillHoles = () => {
      for (let hole = waiting?.entry.chunks[waiting.at]; hole?.id === ''; hole = waiting?.entry.chunks[waiting.at]) {
        waiting?.parts.push(Buffer.alloc(hole.bytes));
        if (waiting !== undefined) waiting.at += 1;
      }
    };
    const endFile = () => {
      fillHoles();
      if (waiting === undefined) return;
      const { entry, parts, at } = waiting;
      if (at !== entry.chunks.length) throw new KilnError('AGENT_PROTOCOL', `${entry.path} lacks chunks`);
      this.put(entry.path, nodeOf(entry, Buffer.concat(parts)));
      waiting = undefined;
    };
    for await (const record of records) {
      if (record.kind === 'chunk') {
        fillHoles();
        const expected = waiting?.entry.chunks[waiting.at];
        if (expected?.id !== idOf(salt, record.data)) throw new KilnError('AGENT_PROTOCOL', 'a wrong chunk');
        waiting?.parts.push(record.data);
        if (waiting !== undefined) waiting.at += 1;
        continue;
      }
      endFile();
      const { entry } = record;
      if (entry.type === 'file') waiting = { entry, parts: [], at: 0 };
      else if (entry.type === 'hardlink') this.hardlink(entry.path, entry.target);
      else this.put(entry.path, nodeOf(entry, Buffer.from(entry.type === 'symlink' ? entry.target : '', 'latin1')));
    }
    endFile();
    const entries = this.entries(salt);
    this.index = {
      saveId,
      saltHex,
      entries: new Map(entries.map(({ entry }) => [entry.path, JSON.stringify(entry)])),
      chunks: new Set(entries.flatMap((each) => chunksOf(each).map(({ id }) => id))),
    };
    return { entries: entries.length, bytes: entries.reduce((sum, { entry }) => sum + bytesOfEntry(entry), 0) };
  }

  private put(path: string, node: Node): void {
    const parent = folderOf(path);
    if (parent !== undefined && this.nodes.get(parent)?.type !== 'folder') this.put(parent, folder(++this.clock));
    this.remove(path);
    this.nodes.set(path, node);
  }

  private below(path: string): string[] {
    return [...this.nodes.keys()].filter((name) => name === path || name.startsWith(`${path}/`));
  }

  private now(): string {
    this.clock += 1;
    return String(this.clock);
  }

  private entries(salt: Buffer): { readonly entry: WorkspaceEntry; readonly data: Buffer }[] {
    const first = new Map<Node, string>();
    return [...this.nodes.entries()]
      .sort(([a], [b]) => byBytes(a, b))
      .map(([path, node]) => {
        const { type, data, mode, mtimeNs, xattrs } = node;
        const owned = { path, uid: 0, gid: 0, mtimeNs };
        if (type === 'folder') return { entry: { type, ...owned, mode, ...defined({ xattrs }) }, data };
        if (type === 'symlink') return { entry: { type, ...owned, target: data.toString('latin1') }, data };
        const target = first.get(node);
        if (target !== undefined) return { entry: { type: 'hardlink', path, target }, data };
        first.set(node, path);
        const chunks = this.cut(data).map((part) => chunkFor(salt, part));
        return { entry: { type, ...owned, mode, size: data.length, chunks, ...defined({ xattrs }) }, data };
      });
  }

  private cut(data: Buffer): Buffer[] {
    const parts: Buffer[] = [];
    for (let at = 0; at < data.length; at += this.chunkBytes) parts.push(data.subarray(at, at + this.chunkBytes));
    return parts;
  }
}

const byBytes = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
const folder = (at: number): Node => ({ type: 'folder', data: Buffer.alloc(0), mode: 0o755, mtimeNs: String(at) });

const idOf = (salt: Buffer, data: Buffer): string => createHash('sha256').update(salt).update(data).digest('hex');

/** What is all zeros is a hole. */
function chunkFor(salt: Buffer, data: Buffer): Chunk {
  return { id: data.every((byte) => byte === 0) ? '' : idOf(salt, data), bytes: data.length };
}

function chunksOf({ entry, data }: { readonly entry: WorkspaceEntry; readonly data: Buffer }) {
  let at = 0;
  return (entry.type === 'file' ? entry.chunks : []).flatMap(({ id, bytes }) => {
    at += bytes;
    return id === '' ? [] : [{ id, data: data.subarray(at - bytes, at) }];
  });
}

function nodeOf(entry: Exclude<WorkspaceEntry, { type: 'hardlink' }>, data: Buffer): Node {
  const { type, mtimeNs } = entry;
  if (type === 'symlink') return { type, mtimeNs, mode: 0, data };
  return { type, mtimeNs, mode: entry.mode, data, ...defined({ xattrs: entry.xattrs }) };
}
