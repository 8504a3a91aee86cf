/** Random changes of a workspace: each as lines of bash for the guest, and as what the model becomes by them. Pure. */
import type { SeededRandom } from '../random.ts';
import type { FileNode, FolderNode, Path, Tree, TreeNode } from './tree.ts';

/** Changes of one run. */
export interface Changes {
  /** Lines of bash, to be run in the workspace as root with umask 022. */
  readonly script: string;
  /** Changes the model in the same way. */
  apply(tree: Tree): void;
}

interface Change {
  readonly shell: string;
  apply(tree: Tree): void;
  /** Paths whose times the change sets to the present, which the model does not know. */
  readonly touches: readonly Path[];
}
type Maker = (random: SeededRandom, tree: Tree) => Change | undefined;

/** The workspace itself. */
export const ROOT: Path = '';
/** Runs change nothing in here: files written from outside are. */
export const WRITTEN = 'written';
/** Names the last run that has changed the workspace. */
export const MARK = '.mark';

const NAMES = [
  ...['a', 'b', 'c', 'd', 'src', 'main.c', 'node_modules', '.git', '.hidden'],
  ...['two words', "it's", '-rf', '*', '$HOME', 'back\\slash', 'new\nline', 'tab\t', '"'],
  ...['\xff\xfe', '\xc3\xbc', '\xe2\x82\xac', 'n'.repeat(255)],
] as const;
const MODES = [0o644, 0o600, 0o755, 0o700, 0o444, 0o000, 0o666] as const;
const IDS = [0, 0, 1000, 65_534] as const;
const MOST_ENTRIES = 50;
const MOST_DEPTH = 4;
const MOST_BYTES = 3_000_000;
const SECOND = 1_000_000_000n;

/** @returns a word of bash that stands for these bytes */
export function quoted(bytes: string): string {
  const plain = (char: string) => (/[A-Za-z0-9._/-]/.test(char) ? char : `\\x${hex(char)}`);
  return `$'${[...bytes].map(plain).join('')}'`;
}
const hex = (char: string) => char.charCodeAt(0).toString(16).padStart(2, '0');
const word = (path: Path) => quoted(path === ROOT ? '.' : `./${path}`);

/**
 * @param tree as it is before them; not changed
 * @param id marks the workspace (`MARK`)
 */
export function randomChanges(random: SeededRandom, tree: Tree, { count, id }: { count: number; id: string }): Changes {
  const scratch = tree.copy();
  const changes: Change[] = [];
  const add = (change: Change | undefined) => {
    if (change === undefined) return;
    applyOne(scratch, change);
    changes.push(change);
  };
  for (let n = 0; n < count; n++) add(random.pick(MAKERS)(random, scratch));
  add(write(MARK, { shell: `printf %s ${quoted(id)}`, content: Buffer.from(id, 'latin1') }));
  const touched = [...new Set(changes.flatMap(({ touches }) => touches))].filter((path) => scratch.get(path));
  add(setTime(touched, BigInt(random.between(1, 2_000_000_000)) * SECOND + BigInt(random.between(0, 999_999_999))));
  return {
    script: changes.map(({ shell }) => shell).join('\n'),
    apply: (model) => {
      for (const change of changes) applyOne(model, change);
    },
  };
}

function applyOne(tree: Tree, { apply, touches }: Change): void {
  apply(tree);
  for (const path of touches) {
    const node = tree.get(path);
    if (node !== undefined) node.mtime = undefined;
  }
}

interface Content {
  /** Writes it to standard output. */
  readonly shell: string;
  readonly content: Buffer;
}

/** Text that a chunker cuts at different places: numbers, one a line. */
function numbers(from: number, bytes: number): Content {
  const lines: string[] = [];
  for (let n = from, left = bytes; left > 0; n++) {
    lines.push(`${n}\n`);
    left -= `${n}\n`.length;
  }
  const content = Buffer.from(lines.join('')).subarray(0, bytes);
  return { shell: `seq ${from} ${from + lines.length} | head -c ${bytes}`, content };
}

function someContent(random: SeededRandom): Content {
  const kind = random.next();
  const most = kind < 0.15 ? 0 : kind < 0.8 ? 4_000 : kind < 0.97 ? 100_000 : 1_500_000;
  return numbers(random.between(1, 1_000_000), random.between(0, most));
}

const parentOf = (path: Path): Path => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** A name that is free, in a folder that may have more. */
function freePath(random: SeededRandom, tree: Tree): Path | undefined {
  if (tree.size > MOST_ENTRIES) return undefined;
  const folders = tree.paths('folder').filter((path) => isOurs(path) && path.split('/').length < MOST_DEPTH);
  const folder = random.pick([ROOT, ...folders]);
  const path = folder === ROOT ? random.pick(NAMES) : `${folder}/${random.pick(NAMES)}`;
  return tree.get(path) === undefined ? path : undefined;
}

const isOurs = (path: Path) => path !== MARK && path !== WRITTEN && !path.startsWith(`${WRITTEN}/`);

function onePath(random: SeededRandom, tree: Tree, ...kinds: TreeNode['kind'][]): Path | undefined {
  const [first, ...more] = kinds.flatMap((kind) => tree.paths(kind)).filter((path) => isOurs(path) && path !== ROOT);
  return first === undefined ? undefined : random.pick([first, ...more]);
}

const fileAt = (tree: Tree, path: Path): FileNode => {
  const node = tree.get(path);
  if (node?.kind !== 'file') throw new Error(`${JSON.stringify(path)} is no file of the model`);
  return node;
};

const owned = (mode: number) => ({ mode, uid: 0, gid: 0, mtime: undefined });

/** Writes a whole file; one that exists keeps its owner, mode and other names. */
function write(path: Path, { shell, content }: Content): Change {
  return {
    shell: `${shell} > ${word(path)}`,
    apply: (tree) => {
      if (tree.get(path) === undefined) tree.set(path, { kind: 'file', ...owned(0o644), content });
      else fileAt(tree, path).content = content;
    },
    touches: [path, parentOf(path)],
  };
}

function setTime(paths: readonly Path[], mtime: bigint): Change {
  const at = `${mtime / SECOND}.${String(mtime % SECOND).padStart(9, '0')}`;
  return {
    shell: `touch -h -d @${at} -- ${paths.map(word).join(' ')}`,
    apply: (tree) => {
      for (const path of paths) {
        const node = tree.get(path);
        if (node !== undefined) node.mtime = mtime;
      }
    },
    touches: [],
  };
}

/** A change of one file's content. */
function edit(path: Path, shell: string, edited: (before: Buffer) => Buffer): Change {
  return {
    shell,
    apply: (tree) => {
      const file = fileAt(tree, path);
      file.content = edited(file.content);
    },
    touches: [path],
  };
}

const newFile: Maker = (random, tree) => {
  const path = freePath(random, tree);
  return path === undefined ? undefined : write(path, someContent(random));
};
const overwrite: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file');
  return path === undefined ? undefined : write(path, someContent(random));
};
const append: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file');
  if (path === undefined || fileAt(tree, path).content.length > MOST_BYTES) return undefined;
  const { shell, content } = someContent(random);
  return edit(path, `${shell} >> ${word(path)}`, (before) => Buffer.concat([before, content]));
};
/** Everything behind it moves. */
const insert: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file');
  if (path === undefined || fileAt(tree, path).content.length > MOST_BYTES) return undefined;
  const { shell, content } = numbers(random.between(1, 1_000), random.between(1, 300));
  const line = `{ ${shell}; cat ${word(path)}; } > /tmp/inserted && cat /tmp/inserted > ${word(path)}`;
  return edit(path, line, (before) => Buffer.concat([content, before]));
};
/** As many bytes as before, and half of the time the old time of change as well: only the time of the inode tells. */
const poke: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file');
  const file = path === undefined ? undefined : fileAt(tree, path);
  if (path === undefined || file === undefined || file.content.length === 0) return undefined;
  const at = random.between(0, file.content.length - 1);
  const byte = random.pick(['x', 'y', 'z']);
  const change = edit(path, `printf ${byte} | dd of=${word(path)} bs=1 seek=${at} conv=notrunc status=none`, (before) =>
    Buffer.concat([before.subarray(0, at), Buffer.from(byte), before.subarray(at + 1)]),
  );
  if (file.mtime === undefined || random.next() < 0.5) return change;
  const back = setTime([path], file.mtime);
  return { ...change, shell: `${change.shell}\n${back.shell}`, touches: [] };
};
/** Shorter, or longer by a hole. */
const resize: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file');
  if (path === undefined) return undefined;
  const bytes = random.pick([0, 1, 4096, 70_000, 1_200_000]);
  const resized = (before: Buffer) => Buffer.concat([before.subarray(0, bytes)], bytes);
  return edit(path, `truncate -s ${bytes} ${word(path)}`, resized);
};
const newFolder: Maker = (random, tree) => {
  const path = freePath(random, tree);
  if (path === undefined) return undefined;
  const node = (): FolderNode => ({ kind: 'folder', ...owned(0o755) });
  return {
    shell: `mkdir -- ${word(path)}`,
    apply: (model) => model.set(path, node()),
    touches: [path, parentOf(path)],
  };
};
const newLink: Maker = (random, tree) => {
  const path = freePath(random, tree);
  if (path === undefined) return undefined;
  const target = random.pick(['a', '../b', '/etc/passwd', 'nowhere/\xff', '.', 'x'.repeat(300)]);
  return {
    shell: `ln -s -- ${quoted(target)} ${word(path)}`,
    apply: (model) => model.set(path, { kind: 'link', ...owned(0o777), target }),
    touches: [path, parentOf(path)],
  };
};
const newHardLink: Maker = (random, tree) => {
  const [from, to] = [onePath(random, tree, 'file'), freePath(random, tree)];
  if (from === undefined || to === undefined) return undefined;
  return {
    shell: `ln -- ${word(from)} ${word(to)}`,
    apply: (model) => model.set(to, fileAt(model, from)),
    touches: [parentOf(to)],
  };
};
const rename: Maker = (random, tree) => {
  const from = onePath(random, tree, 'file', 'folder', 'link');
  const to = freePath(random, tree);
  if (from === undefined || to === undefined || to.startsWith(`${from}/`)) return undefined;
  return {
    shell: `mv -T -- ${word(from)} ${word(to)}`,
    apply: (model) => model.move(from, to),
    touches: [parentOf(from), parentOf(to)],
  };
};
const remove: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file', 'file', 'link', 'folder');
  if (path === undefined) return undefined;
  return {
    shell: `rm -rf -- ${word(path)}`,
    apply: (model) => model.remove(path),
    touches: [parentOf(path)],
  };
};
/** The same name, another kind. */
const replace: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file', 'link');
  if (path === undefined) return undefined;
  return {
    shell: `rm -- ${word(path)} && mkdir -- ${word(path)}`,
    apply: (model) => model.set(path, { kind: 'folder', ...owned(0o755) }),
    touches: [path, parentOf(path)],
  };
};
const changeMode: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file', 'folder');
  if (path === undefined) return undefined;
  const mode = tree.get(path)?.kind === 'folder' && random.next() < 0.3 ? 0o1777 : random.pick(MODES);
  return owning(path, `chmod ${mode.toString(8)} -- ${word(path)}`, { mode });
};
const changeOwner: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file', 'folder', 'link');
  if (path === undefined) return undefined;
  const [uid, gid] = [random.pick(IDS), random.pick(IDS)];
  return owning(path, `chown -h ${uid}:${gid} -- ${word(path)}`, { uid, gid });
};
/** Only the time: any that a file can have. */
const changeTime: Maker = (random, tree) => {
  const path = onePath(random, tree, 'file', 'folder', 'link');
  return path === undefined ? undefined : setTime([path], BigInt(random.between(0, 4_000_000_000)) * SECOND + 1n);
};

/** A change of the inode alone. */
function owning(path: Path, shell: string, fields: { mode?: number; uid?: number; gid?: number }): Change {
  return { shell, apply: (tree) => void Object.assign(tree.get(path) ?? {}, fields), touches: [] };
}

const MAKERS: readonly [Maker, ...Maker[]] = [
  newFile,
  ...[newFile, newFile, newFile, newFile, overwrite, append, insert, poke, poke, resize],
  ...[newFolder, newFolder, newLink, newHardLink, rename, rename, remove, replace],
  ...[changeMode, changeOwner, changeTime],
];
