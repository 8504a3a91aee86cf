import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { extract } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { serviceConfigSchema } from '../../../../contracts/service/service-manifest.ts';
import { isKilnError } from '../../../../domain/failures.ts';
import { DEFAULT_HEALTH } from '../../../../domain/workload/workload.ts';
import { createServiceSources } from '../../../../host/sources/service-sources.ts';
import { createInProcessInspections } from '../../../../inspection/inspections.ts';
import type { ServiceSources } from '../../../../ports/builds.ts';

let root: string;
let sources: ServiceSources;
const noUploads = { fetch: () => Promise.reject(new Error('nothing is uploaded here')) };
const LIMITS = { maxBytes: 1_000_000, maxEntries: 100 };

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ks-'));
  await mkdir(join(root, 'project', 'services', 'api'), { recursive: true });
  sources = createServiceSources({
    ...LIMITS,
    projectRoot: join(root, 'project'),
    scratchDir: join(root, 'tmp'),
    uploads: noUploads,
    privateNames: ['db.corp:5432'],
    inspections: createInProcessInspections(),
  });
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function put(files: Record<string, unknown>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const path = join(root, 'project', 'services', 'api', name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  }
}
const inspect = () => sources.inspect({ servicePath: 'services/api' });
const START = { hooks: { start: 'node server.ts' } };

describe('inspecting a service', () => {
  it.each(['services/none', 'services/api/file', 'long'.repeat(1500)])('%#: not found', async (path) => {
    await put({ file: '' });
    await expect(sources.inspect({ servicePath: path })).rejects.toMatchObject({ code: 'SERVICE_NOT_FOUND' });
  });

  it('says which directory was not found', async () => {
    await expect(sources.inspect({ servicePath: 'services/none' })).rejects.toThrow(
      'Service directory not found: services/none',
    );
  });

  it.each(['', '/etc', '../x', 'services/../../x', 'services/..', 'a\\..\\b', 'a\0b'])(
    '%j is refused',
    async (path) => {
      await expect(sources.inspect({ servicePath: path })).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    },
  );

  it('no path leads out of the root', async () => {
    await mkdir(join(root, 'outside'));
    await writeFile(join(root, 'outside', 'kiln.json'), JSON.stringify(START));
    const part = fc.constantFrom('..', '.', 'services', 'api', 'outside', '/', '', root);
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 6 }), async (parts) => {
        const error: unknown = await sources
          .inspect({ servicePath: parts.join('/') })
          .catch((thrown: unknown) => thrown);
        expect(isKilnError(error)).toBe(true);
      }),
    );
  });

  it('a link out of the root is refused, one inside is followed', async () => {
    await mkdir(join(root, 'outside'));
    await symlink(join(root, 'outside'), join(root, 'project', 'out'));
    await symlink('services/api', join(root, 'project', 'in'));
    await put({ 'kiln.json': START, 'server.ts': '' });
    await expect(sources.inspect({ servicePath: 'out' })).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    expect((await sources.inspect({ servicePath: 'in' })).hooks.start).toBe('node server.ts');
  });

  it('nothing is MANIFEST_MISSING, and a Dockerfile alone is told to be none', async () => {
    await expect(inspect()).rejects.toMatchObject({ code: 'MANIFEST_MISSING' });
    await put({ Dockerfile: 'FROM x' });
    await expect(inspect()).rejects.toMatchObject({
      code: 'MANIFEST_MISSING',
      message: expect.stringContaining('Dockerfile alone'),
    });
  });

  it('reads all of a kiln.json', async () => {
    await put({
      'kiln.json': {
        language: 'node',
        hooks: { preBuild: 'echo', build: 'make', start: 'node dist/x.js' },
        outputs: ['dist'],
        env: { required: ['A', 'B', 'A'] },
        health: { path: '/up', failures: 5 },
        resources: { memMib: 700 },
        egress: { allow: ['api.example.com'] },
      },
    });
    expect(await inspect()).toEqual({
      language: 'node',
      hooks: { preBuild: 'echo', build: 'make', start: 'node dist/x.js' },
      outputs: ['dist'],
      envRequired: ['A', 'B'],
      health: { ...DEFAULT_HEALTH, path: '/up', failures: 5 },
      resources: { memMib: 700 },
      egress: ['api.example.com:443'],
      installs: false,
    });
  });

  it('egress to another port is possible to the names that the operator calls private', async () => {
    const asks = (entry: string) =>
      put({ 'kiln.json': { language: 'none', hooks: { start: 'x' }, egress: { allow: [entry] } } });
    await asks('DB.corp:5432');
    expect((await inspect()).egress).toEqual(['DB.corp:5432']);
    await asks('db.corp:5433');
    await expect(inspect()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/^kiln\.json: egress\.allow: .*"db\.corp:5433".*KILN_EGRESS_PRIVATE/),
    });
  });

  it('a package.json is enough', async () => {
    await put({
      'package.json': { scripts: { build: 'tsc', start: 'node dist/x.js' }, dependencies: { a: '^1' } },
    });
    expect(await inspect()).toMatchObject({ hooks: { build: 'tsc', start: 'node dist/x.js' }, installs: true });
    expect(await inspect()).not.toHaveProperty('lockFile');
  });

  it('hooks win over scripts; scripts with hooks of their own go through npm', async () => {
    await put({
      'kiln.json': { hooks: { start: 'node a.js' } },
      'package.json': { scripts: { build: 'tsc', prebuild: 'gen', start: 'node b.js' } },
    });
    expect((await inspect()).hooks).toEqual({ build: 'npm run build', start: 'node a.js' });
  });

  it.each([
    [{ main: 'lib/main.js' }, 'lib/main.js', 'node lib/main.js'],
    [{ main: "it's.js" }, "it's.js", String.raw`node 'it'\''s.js'`],
    [{}, 'index.js', 'node index.js'],
  ])('%j starts with %s', async (manifest, file, start) => {
    await put({ 'package.json': manifest, [file]: '' });
    expect((await inspect()).hooks.start).toBe(start);
  });

  it('nothing that could be started, or a start file that is not there, is CONFIG_INVALID', async () => {
    await put({ 'package.json': {} });
    await expect(inspect()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('hooks.start'),
    });
    await put({ 'kiln.json': { hooks: { start: 'node --enable-source-maps src/x.ts' } } });
    await expect(inspect()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('no src/x.ts'),
    });
    await put({ 'src/x.ts': '' });
    expect((await inspect()).hooks.start).toContain('src/x.ts');
  });

  it('a build may make the start file', async () => {
    await put({ 'kiln.json': { hooks: { build: 'make', start: 'node dist/x.js' } } });
    expect((await inspect()).hooks.start).toBe('node dist/x.js');
  });

  it('broken JSON is told by line and column', async () => {
    await put({ 'kiln.json': '{\n  "hooks": {\n    "start": "node x.js",,\n  }\n}' });
    await expect(inspect()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/^kiln\.json .*line 3, column 26/),
      details: { line: 3, column: 26 },
    });
    for (const text of ['', '{', '[1,', '{"a":1} x', '// hello', '{"a":1,}', '\ufeff{']) {
      await put({ 'kiln.json': text });
      await expect(inspect()).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining('line 1'),
      });
    }
  });

  it.each([
    [{ hooks: { strat: 'x' } }, '"hooks.strat"'],
    [{ port: 80 }, '"port"'],
    [{ language: 'cobol' }, '"language"'],
    [{ hooks: { start: '' } }, '"hooks.start"'],
    [{ outputs: ['../secret'] }, '"outputs.0"'],
    [{ outputs: ['/etc'] }, '"outputs.0"'],
    [{ health: { path: 'up' } }, '"health.path"'],
    [{ health: { failures: 0 } }, '"health.failures"'],
    [{ env: { required: ['A-B'] } }, '"env.required.0"'],
    ['[]', 'kiln.json'],
  ])('%j is refused, naming %s', async (config, named) => {
    await put({ 'kiln.json': config });
    await expect(inspect()).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(named) });
  });

  it('a file that is too large is not read', async () => {
    await put({ 'kiln.json': ' '.repeat(1024 * 1024 + 1) });
    await expect(inspect()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('bytes'),
    });
  });

  it('whatever a manifest holds, the outcome is a manifest or a typed error', async () => {
    await fc.assert(
      fc.asyncProperty(fc.json(), async (json) => {
        await put({ 'kiln.json': json });
        const found: unknown = await inspect().catch((error: unknown) => error);
        expect(isKilnError(found) || serviceConfigSchema.safeParse(JSON.parse(json)).success).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});

describe('the lock file', () => {
  const manifest = { dependencies: { a: '^1.0.0' }, devDependencies: { b: '2' }, scripts: { start: 'npx x' } };
  const lock = (dependencies: object, devDependencies: object, names: string[]) => ({
    lockfileVersion: 3,
    packages: {
      '': { dependencies, devDependencies },
      ...Object.fromEntries(names.map((n) => [`node_modules/${n}`, {}])),
    },
  });

  it('is used where it agrees', async () => {
    await put({ 'package.json': manifest, 'package-lock.json': lock({ a: '^1.0.0' }, { b: '2' }, ['a', 'b', 'c']) });
    expect(await inspect()).toMatchObject({ installs: true, lockFile: 'package-lock.json' });
  });

  it.each([
    ['a is not in', lock({}, { b: '2' }, ['b'])],
    ['a is ^1.0.0 in', lock({ a: '^2.0.0' }, { b: '2' }, ['a', 'b'])],
    ['c is only in', lock({ a: '^1.0.0', c: '1' }, { b: '2' }, ['a', 'b', 'c'])],
    ['b has no entry', lock({ a: '^1.0.0' }, { b: '2' }, ['a'])],
    ['b is not in', { lockfileVersion: 1, dependencies: { a: {} } }],
  ])('%s: DEPENDENCY_UNDECLARED', async (what, file) => {
    await put({ 'package.json': manifest, 'package-lock.json': file });
    await expect(inspect()).rejects.toMatchObject({
      code: 'DEPENDENCY_UNDECLARED',
      message: expect.stringContaining(what),
    });
  });

  it('names its digest when the service is packed', async () => {
    await put({ 'package.json': manifest, 'package-lock.json': '{}' });
    const packed = await sources.pack({ servicePath: 'services/api' });
    expect(packed.lockSha256).toBe(createHash('sha256').update('{}').digest('hex'));
  });
});

describe('packing', () => {
  const pack = () => sources.pack({ servicePath: 'services/api' });
  async function entriesOf(tarPath: string): Promise<Record<string, string>> {
    const found: Record<string, string> = {};
    const reader = extract();
    reader.end(await readFile(tarPath));
    for await (const entry of reader) {
      const chunks: Buffer[] = [];
      for await (const chunk of entry) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
      const { name, type, linkname, mode, uid, mtime } = entry.header;
      expect([uid, mtime.getTime()]).toEqual([0, 0]);
      found[name] = type === 'symlink' ? `-> ${linkname}` : `${mode.toString(8)} ${Buffer.concat(chunks)}`;
    }
    return found;
  }

  it('has files, folders and links inside; no node_modules, no .git, no link out, nothing special', async () => {
    await put({
      'b.txt': 'b',
      'sub/a.txt': '',
      'run.sh': '#!',
      'node_modules/x/i.js': 'x',
      'sub/node_modules/y.js': 'y',
      '.git/HEAD': 'h',
      '.env.example': 'e',
    });
    const at = (name: string) => join(root, 'project', 'services', 'api', name);
    await chmod(at('run.sh'), 0o700);
    await symlink('sub/a.txt', at('in'));
    await symlink('../../../..', at('out'));
    await symlink('/etc/passwd', at('absolute'));
    await symlink('nowhere', at('dangling'));
    const { tarPath, sha256, bytes } = await pack();
    const tar = await readFile(tarPath);
    expect({ sha256, bytes }).toEqual({ sha256: createHash('sha256').update(tar).digest('hex'), bytes: tar.length });
    expect(await entriesOf(tarPath)).toEqual({
      '.env.example': '644 e',
      'b.txt': '644 b',
      in: '-> sub/a.txt',
      'run.sh': '755 #!',
      'sub/': '755 ',
      'sub/a.txt': '644 ',
    });
  });

  it('the digest is that of the content: not of times, owners, or the order in which files were made', async () => {
    await put({ b: '1', a: '2', 'sub/x': '3' });
    const first = await pack();
    const folder = join(root, 'project', 'services', 'api');
    await rename(join(folder, 'a'), join(folder, 'z'));
    await rename(join(folder, 'z'), join(folder, 'a'));
    await utimes(join(folder, 'b'), 1, 1);
    expect((await pack()).sha256).toBe(first.sha256);
    await put({ 'sub/x': '4' });
    expect((await pack()).sha256).not.toBe(first.sha256);
  });

  it('large files come whole', async () => {
    const big = 'x'.repeat(700_001);
    await put({ big, 'unicode-ä': 'ü' });
    expect(await entriesOf((await pack()).tarPath)).toEqual({ big: `644 ${big}`, 'unicode-ä': '644 ü' });
  });

  it('a name that is no text is told', async () => {
    const folder = Buffer.from(join(root, 'project', 'services', 'api', 'x'));
    await writeFile(Buffer.concat([folder, Buffer.from([0xff])]), '');
    await expect(pack()).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    expect(await readdir(join(root, 'tmp'))).toEqual([]);
  });

  it('is bounded, and leaves no half tar behind', async () => {
    await put({ big: 'x'.repeat(LIMITS.maxBytes) });
    await expect(pack()).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    await rm(join(root, 'project', 'services', 'api', 'big'));
    await put(Object.fromEntries(Array.from({ length: LIMITS.maxEntries + 1 }, (_, index) => [`f${index}`, ''])));
    await expect(pack()).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    expect(await readdir(join(root, 'tmp'))).toEqual([]);
  });
});
