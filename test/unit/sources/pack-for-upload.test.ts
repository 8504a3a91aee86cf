/** Which files of a caller's folder are uploaded, and that they are unpacked elsewhere unchanged. */
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isKilnError } from '../../../domain/failures.ts';
import { isSecretPath, npmrcHoldsSecret } from '../../../domain/sources/secret-files.ts';
import { linkProblem } from '../../../domain/sources/source-tree.ts';
import { packForUpload } from '../../../sources/pack-for-upload.ts';
import { readSourceTar } from '../../../sources/source-tar.ts';
import { unpackFolder } from '../../../sources/unpack-folder.ts';

const LIMITS = { maxBytes: 1_000_000, maxEntries: 100 };
let root: string;
let folder: string;
let made = 0;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kp-'));
  folder = join(root, 'service');
  await mkdir(folder);
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function put(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
}
const packed = async (allowSecrets: readonly string[] = []) => {
  const tarPath = join(root, `${made++}.tar`);
  return { tarPath, ...(await packForUpload(folder, tarPath, { ...LIMITS, allowSecrets })) };
};
const paths = async () => (await packed()).files.map(({ path }) => path);

describe('ignore files', () => {
  it('a deeper one goes before those above it; a folder that is left out is not looked into', async () => {
    await put({
      '.gitignore': '*.log\n/dist\n!keep.log\n',
      'a.log': '',
      'keep.log': '',
      'dist/x.js': '',
      'sub/.gitignore': '!a.log\nlocal.txt\n',
      'sub/a.log': '',
      'sub/b.log': '',
      'sub/local.txt': '',
      'sub/dist/y.js': '',
      'local.txt': '',
      'dist/.gitignore': '!x.js',
    });
    expect(await paths()).toEqual([
      '.gitignore',
      'keep.log',
      'local.txt',
      'sub/.gitignore',
      'sub/a.log',
      'sub/dist/y.js',
    ]);
  });

  it('a .kilnignore stands in place of the .gitignore beside it', async () => {
    await put({ '.gitignore': 'built.js\n', '.kilnignore': 'notes.md\n', 'built.js': '', 'notes.md': '' });
    expect(await paths()).toEqual(['.gitignore', '.kilnignore', 'built.js']);
  });

  it('what every build makes anew never goes up', async () => {
    const left = ['node_modules', '.git', '.kiln', '__pycache__', '.venv'];
    await put({
      '.gitignore': '!node_modules\n',
      'a/a.js': '',
      ...Object.fromEntries(left.map((n) => [`a/${n}/x`, ''])),
    });
    expect(await paths()).toEqual(['.gitignore', 'a/a.js']);
  });

  it('a folder of which nothing is left is refused', async () => {
    await put({ '.gitignore': '*' });
    await expect(packed()).rejects.toMatchObject({ code: 'SPEC_INVALID' });
  });
});

describe('secrets', () => {
  it.each([
    '.env',
    '.env.production',
    'sub/.ENV',
    'tls/server.pem',
    'server.key',
    'id_rsa',
    'id_ed25519.bak',
    'credentials.json',
    'my-service-account.json',
    'service_account_prod.json',
    '.aws/config',
    'home/.ssh/known_hosts',
    '.netrc',
    'terraform.tfstate',
  ])('%s looks like one', (path) => expect(isSecretPath(path)).toBe(true));

  it.each(['.env.example', 'id_rsa.pub', 'src/env.ts', 'keys.ts', 'monkey', 'credentials.ts', 'aws/config', '.npmrc'])(
    '%s does not',
    (path) => expect(isSecretPath(path)).toBe(false),
  );

  it.each([
    ['//registry.example/:_authToken=abc', true],
    ['_auth = "YTpi"', true],
    ['//r/:_password=x', true],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: npm's own form of a variable
    ['//r/:_authToken=${NPM_TOKEN}', false],
    ['# _auth=x', false],
    ['always-auth=true\nsave-exact=true', false],
  ])('an .npmrc with %j: %s', (text, expected) => expect(npmrcHoldsSecret(text)).toBe(expected));

  it('are named and nothing is packed for sending; one goes up where its owner says so', async () => {
    await put({ 'a.js': '', '.env': 'X=1', 'certs/a.pem': '', '.npmrc': '//r/:_authToken=abc' });
    const refused = await packed().catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'SPEC_INVALID', details: { paths: ['.env', '.npmrc', 'certs/a.pem'] } });
    expect(refused).toMatchObject({ message: expect.stringContaining('--allow-secret') });
    const { files } = await packed(['./.env', 'certs/', '.npmrc']);
    expect(files.map(({ path }) => path)).toEqual(['.env', '.npmrc', 'a.js', 'certs/a.pem']);
    await put({ '.kilnignore': '.env\n*.pem\n.npmrc\n' });
    expect(await paths()).toEqual(['.kilnignore', 'a.js']);
  });
});

describe('links', () => {
  it('inside stay links; one that leads out, or nowhere, is refused by name', async () => {
    await put({ 'a/b.txt': 'b' });
    await symlink('../a/b.txt', join(folder, 'a/again'));
    await symlink('a', join(folder, 'folder'));
    expect(await paths()).toEqual(['a/again', 'a/b.txt', 'folder']);
    for (const target of ['../..', '/etc/passwd', 'nowhere', join(folder, 'a'), 'a/../a']) {
      await symlink(target, join(folder, 'bad'));
      await expect(packed()).rejects.toMatchObject({ code: 'SPEC_INVALID', message: expect.stringContaining('bad') });
      await rm(join(folder, 'bad'));
    }
  });

  it('whatever the targets of links are, following those that pass never leads out', async () => {
    const part = fc.constantFrom('..', '.', 'a', 'b', 'l0', 'l1', 'l2');
    const target = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));
    const place = fc.constantFrom('', 'a/', 'a/b/');
    await fc.assert(
      fc.property(fc.array(fc.tuple(place, target), { minLength: 3, maxLength: 3 }), (links) => {
        const tree = new Map(links.map(([prefix, to], index) => [`${prefix}l${index}`, to]));
        const sound = new Map([...tree].filter(([path, to]) => linkProblem(path, to) === undefined));
        for (const path of sound.keys()) expect(walk(sound, path, 0)).not.toBe('out');
      }),
      { numRuns: 2_000 },
    );
  });
});

/** Follows a path through the links of a tree, like a kernel. @returns where it ends; `out`: outside of the tree */
function walk(links: ReadonlyMap<string, string>, path: string, depth: number, from: readonly string[] = []): string {
  if (depth > 40) return 'loop';
  let at = [...from];
  for (const part of path.split('/')) {
    if (part === '.' || part === '') continue;
    if (part === '..') {
      if (at.length === 0) return 'out';
      at = at.slice(0, -1);
      continue;
    }
    const target = links.get([...at, part].join('/'));
    const next = target === undefined ? [...at, part].join('/') : walk(links, target, depth + 1, at);
    if (next === 'out' || next === 'loop') return next;
    at = next === '' ? [] : next.split('/');
  }
  return at.join('/');
}

describe('a packed folder', () => {
  it('has the digest of its content, and comes out as it was', async () => {
    await put({ 'run.sh': '#!', 'a/b/c.txt': 'ü'.repeat(3_000), empty: '' });
    await chmod(join(folder, 'run.sh'), 0o755);
    await symlink('a/b', join(folder, 'short'));
    const first = await packed();
    await utimes(join(folder, 'empty'), 5, 5);
    expect((await packed()).sha256).toBe(first.sha256);
    const out = join(root, 'out');
    await unpackFolder(Readable.from([await readFile(first.tarPath)]), out, LIMITS);
    expect((await readdir(out)).sort()).toEqual(['a', 'empty', 'run.sh', 'short']);
    expect(await readFile(join(out, 'short/c.txt'), 'utf8')).toBe('ü'.repeat(3_000));
    expect(await readlink(join(out, 'short'))).toBe('a/b');
    expect((await stat(join(out, 'run.sh'))).mode & 0o777).toBe(0o755);
    await chmod(join(folder, 'run.sh'), 0o644);
    expect((await packed()).sha256).not.toBe(first.sha256);
  });

  it('damaged anywhere, it is read as a tar or refused with a code, and nothing is written elsewhere', async () => {
    await put({ 'a.txt': 'a'.repeat(600), 'sub/b.txt': 'b' });
    await symlink('sub', join(folder, 'link'));
    const tar = await readFile((await packed()).tarPath);
    const damage = fc.array(fc.tuple(fc.nat(tar.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(damage, fc.nat(tar.length), async (places, length) => {
        const bytes = Buffer.from(tar);
        for (const [at, value] of places) bytes[at] = value;
        const out = join(root, 'damaged', 'out');
        await mkdir(dirname(out), { recursive: true });
        const error: unknown = await unpackFolder(Readable.from([bytes.subarray(0, length)]), out, LIMITS).catch(
          (thrown: unknown) => thrown,
        );
        if (error !== undefined) expect(isKilnError(error)).toBe(true);
        expect(await readdir(dirname(out))).toEqual(['out']);
        await rm(dirname(out), { recursive: true });
      }),
      { numRuns: 150 },
    );
  });

  it('a stream that breaks is told as it is, not as a bad tar', async () => {
    await put({ 'a.txt': 'a' });
    const tar = await readFile((await packed()).tarPath);
    const broken = Readable.from(
      (async function* () {
        yield tar.subarray(0, 700);
        throw new Error('the line is cut');
      })(),
    );
    const ignored = {
      directory: async () => {},
      link: async () => {},
      file: async (_p: string, _x: boolean, c: Readable) => void c.resume(),
    };
    await expect(readSourceTar(broken, LIMITS, ignored)).rejects.toThrow('the line is cut');
  });
});
