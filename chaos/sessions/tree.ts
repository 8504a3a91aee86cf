/**
 * What a workspace should hold, as a model of it: the kernel's rules for the few things that runs of the chaos do, in
 * memory. It shares no code with save and restore. Pure.
 */
import { createHash } from 'node:crypto';

/** Names are bytes: one character for each (`latin1`). Relative, parts divided by `/`; `` is the workspace itself. */
export type Path = string;

interface Owned {
  mode: number;
  uid: number;
  gid: number;
  /** Nanoseconds since the epoch; undefined: not known, because nobody has set it. */
  mtime: bigint | undefined;
}
/** Hard links of a file are one object. */
export interface FileNode extends Owned {
  readonly kind: 'file';
  content: Buffer;
}
export interface FolderNode extends Owned {
  readonly kind: 'folder';
}
export interface LinkNode extends Owned {
  readonly kind: 'link';
  readonly target: string;
}
export type TreeNode = FileNode | FolderNode | LinkNode;

/** One entry as it can be seen from outside. */
export interface SeenEntry {
  readonly kind: TreeNode['kind'];
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: bigint | undefined;
  /** Of a file: SHA-256 of its content, hex. */
  readonly sha256?: string;
  /** Of a file with several names: the first of them. */
  readonly sameAs?: Path;
  /** Of a symbolic link. */
  readonly target?: string;
}
export type SeenTree = ReadonlyMap<Path, SeenEntry>;

export class Tree {
  private readonly nodes: Map<Path, TreeNode>;

  /** @param nodes by path; the workspace itself among them */
  constructor(nodes: ReadonlyMap<Path, TreeNode>) {
    this.nodes = new Map(nodes);
  }

  /** A tree that is changed without changing this one. */
  copy(): Tree {
    const copies = new Map<TreeNode, TreeNode>();
    const copyOf = (node: TreeNode): TreeNode => {
      const copy = copies.get(node) ?? { ...node };
      copies.set(node, copy);
      return copy;
    };
    return new Tree(new Map([...this.nodes].map(([path, node]) => [path, copyOf(node)])));
  }

  get(path: Path): TreeNode | undefined {
    return this.nodes.get(path);
  }

  /** @returns the paths of that kind, sorted */
  paths(kind?: TreeNode['kind']): Path[] {
    return [...this.nodes].flatMap(([path, node]) => (kind === undefined || node.kind === kind ? [path] : [])).sort();
  }

  get size(): number {
    return this.nodes.size;
  }

  /** Puts a node in place of whatever had this name. */
  set(path: Path, node: TreeNode): void {
    this.remove(path);
    this.nodes.set(path, node);
  }

  /** Removes an entry with everything below it. */
  remove(path: Path): void {
    for (const below of this.below(path)) this.nodes.delete(below);
  }

  /** Renames an entry with everything below it; the new name is free. */
  move(from: Path, to: Path): void {
    for (const path of this.below(from)) {
      const node = this.nodes.get(path);
      this.nodes.delete(path);
      if (node !== undefined) this.nodes.set(to + path.slice(from.length), node);
    }
  }

  private below(path: Path): Path[] {
    return [...this.nodes.keys()].filter((one) => one === path || one.startsWith(`${path}/`));
  }

  /** @returns the tree as it can be seen from outside */
  seen(): Map<Path, SeenEntry> {
    const names = new Map<TreeNode, Path[]>();
    for (const path of this.paths('file')) {
      const node = this.nodes.get(path);
      if (node !== undefined) names.set(node, [...(names.get(node) ?? []), path]);
    }
    return new Map(this.paths().map((path) => [path, seenEntry(this.nodes.get(path), names)]));
  }

  /** Takes times that nobody has set from what was seen. */
  learnTimes(seen: SeenTree): void {
    for (const [path, node] of this.nodes) node.mtime ??= seen.get(path)?.mtime;
  }
}

function seenEntry(node: TreeNode | undefined, names: ReadonlyMap<TreeNode, readonly Path[]>): SeenEntry {
  if (node === undefined) throw new Error('a path without a node');
  const { kind, mode, uid, gid, mtime } = node;
  const common = { kind, mode, uid, gid, mtime };
  if (node.kind === 'folder') return common;
  if (node.kind === 'link') return { ...common, target: node.target };
  const sha256 = createHash('sha256').update(node.content).digest('hex');
  const [first, second] = names.get(node) ?? [];
  return { ...common, sha256, ...(first !== undefined && second !== undefined ? { sameAs: first } : {}) };
}

/** @returns what differs, a line each; times that are not expected to be any count as equal */
export function differences(expected: SeenTree, found: SeenTree): string[] {
  const paths = [...new Set([...expected.keys(), ...found.keys()])].sort();
  return paths.flatMap((path) => {
    const [was, is] = [expected.get(path), found.get(path)];
    if (was === undefined) return [`${JSON.stringify(path)}: is there`];
    if (is === undefined) return [`${JSON.stringify(path)}: is not there`];
    const wanted = { ...was, mtime: was.mtime ?? is.mtime };
    return text(wanted) === text(is) ? [] : [`${JSON.stringify(path)}: ${text(is)}, not ${text(wanted)}`];
  });
}

function text({ kind, mode, uid, gid, mtime, sha256, sameAs, target }: SeenEntry): string {
  return JSON.stringify([kind, mode.toString(8), uid, gid, String(mtime), sha256, sameAs, target]);
}

/** @returns a fresh workspace, which has nothing in it but itself */
export function emptyTree(seen: SeenTree): Tree {
  const { mode = 0o755, uid = 0, gid = 0, mtime } = seen.get('') ?? {};
  return new Tree(new Map([['', { kind: 'folder', mode, uid, gid, mtime }]]));
}
