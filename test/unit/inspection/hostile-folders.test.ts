/** Folders made to harm their reader, read the way a host does it: in the inspection processes. */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Pack, pack } from 'tar-stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createHostInspections } from '../../../host/inspections.ts';
import { createServiceSources } from '../../../host/sources/service-sources.ts';
import type { InspectionPool } from '../../../inspection/inspection-pool.ts';
import { createInProcessInspections, type Inspections } from '../../../inspection/inspections.ts';
import type { ServiceSources } from '../../../ports/builds.ts';
import { inspectionSettings, LIMITS } from '../../support/inspection/inspection-pools.ts';
import { silentLogger } from '../../support/workers/silent-logger.ts';

const MIB = 1024 * 1024;
const START = { scripts: { start: 'node a.js' } };
const DEPENDS = { ...START, dependencies: { a: '1' } };

let root: string;
let pool: InspectionPool;
let tar: Buffer;

beforeAll(() => {
  pool = createHostInspections(inspectionSettings({ children: 1, memoryMib: 192 }), silentLogger);
  pool.start();
});
afterAll(() => pool.stop());
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-hostile-'));
  await put({ 'a.js': '', 'package.json': START });
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function put(files: Readonly<Record<string, unknown>>): Promise<void> {
  await mkdir(join(root, 'api'), { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(root, 'api', name), typeof content === 'string' ? content : JSON.stringify(content));
  }
}

function sourcesBy(inspections: Inspections): ServiceSources {
  const uploads = { fetch: (_sha256: string, path: string) => writeFile(path, tar) };
  const scratchDir = join(root, 'tmp');
  return createServiceSources({ ...LIMITS, projectRoot: root, scratchDir, uploads, privateNames: [], inspections });
}

const inspect = () => sourcesBy(pool).inspect({ servicePath: 'api' });
const uploaded = { servicePath: '.', source: { sha256: 'a'.repeat(64) } };
const said = (work: Promise<unknown>) =>
  work.catch((error: unknown) => {
    const { name, code, message, details } = Object(error);
    return { name, code, message, details };
  });

describe('a hostile folder', () => {
  it('with a start command of 40 options is read like any other', async () => {
    const start = `node${' --a'.repeat(40)} !`;
    await put({ 'package.json': { scripts: { start } } });
    expect((await inspect()).hooks).toEqual({ start });
  });

  it('with a lock file of 31 MiB of commas is told where the first one is', async () => {
    await put({ 'package.json': DEPENDS, 'package-lock.json': `[${','.repeat(31 * MIB)}` });
    await expect(inspect()).rejects.toMatchObject({ code: 'CONFIG_INVALID', details: { line: 1, column: 2 } });
  });

  it('with a lock file of 31 MiB of lines is told where it ends', async () => {
    await put({ 'package.json': DEPENDS, 'package-lock.json': `[${'\n'.repeat(31 * MIB)}` });
    await expect(inspect()).rejects.toMatchObject({ code: 'CONFIG_INVALID', details: { line: 31 * MIB + 1 } });
  });

  it.each([
    ['30 MiB of entries', () => `{"packages":{${entries(30)}}}`],
    ['31 MiB of brackets', () => '['.repeat(31 * MIB)],
  ])('with a lock file of %s is INSPECTION_LIMIT, and the next is read', async (_, text) => {
    await put({ 'package.json': DEPENDS, 'package-lock.json': text() });
    await expect(inspect()).rejects.toMatchObject({
      code: 'INSPECTION_LIMIT',
      details: { limit: 'memory' },
      message: expect.stringContaining('lock file'),
    });
    await rm(join(root, 'api', 'package-lock.json'));
    expect((await inspect()).hooks.start).toBe('node a.js');
  });

  it.each(['kiln.json', 'package.json'])('with a %s of a MiB of brackets is CONFIG_INVALID', async (name) => {
    await put({ [name]: '['.repeat(MIB) });
    await expect(inspect()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  it('of more files than sources may have is refused, and no half tar is left', async () => {
    await put(Object.fromEntries(Array.from({ length: LIMITS.maxEntries + 1 }, (_, n) => [`f${n}`, ''])));
    await expect(sourcesBy(pool).pack({ servicePath: 'api' })).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    expect(await readdir(join(root, 'tmp'))).toEqual([]);
  });
});

describe('a hostile tar', () => {
  it.each([
    ['too many files', (to: Pack) => files(to, LIMITS.maxEntries + 1), 'PAYLOAD_TOO_LARGE'],
    ['folders that are only implied', (to: Pack) => file(to, 'a/'.repeat(LIMITS.maxEntries + 1)), 'PAYLOAD_TOO_LARGE'],
    ['too many bytes', (to: Pack) => file(to, 'big', LIMITS.maxBytes), 'PAYLOAD_TOO_LARGE'],
    ['a path out of it', (to: Pack) => file(to, '../x'), 'SPEC_INVALID'],
    ['something below a file', (to: Pack) => [file(to, 'x'), file(to, 'x/y')], 'SPEC_INVALID'],
    ['something below a file, far down', (to: Pack) => [file(to, 'x'), file(to, 'x/y/z/q')], 'SPEC_INVALID'],
    ['a folder that was a file', (to: Pack) => [file(to, 'x/y'), file(to, 'x')], 'SPEC_INVALID'],
    ['a header without end', (to: Pack) => file(to, 'n'.repeat(5 * MIB)), 'SPEC_INVALID'],
  ])('of %s is refused, and nothing of it is left', async (_, fill, code) => {
    tar = await tarOf(fill);
    await expect(sourcesBy(pool).inspect(uploaded)).rejects.toMatchObject({ code });
    await expect(sourcesBy(pool).pack(uploaded)).rejects.toMatchObject({ code });
    expect(await readdir(join(root, 'tmp'))).toEqual([]);
  });

  it('that is none is refused', async () => {
    tar = Buffer.alloc(100_000, 'x');
    await expect(sourcesBy(pool).inspect(uploaded)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
  });
});

describe('what the processes answer is what is so', () => {
  it.each([
    ['a plain service', {}],
    ['all of a kiln.json', { 'kiln.json': everything() }],
    ['a file that is missing', { 'package.json': { scripts: { start: 'node b.js' } } }],
    ['broken JSON', { 'kiln.json': '{"a":1,,}' }],
    ['unknown keys', { 'kiln.json': Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`key ${n}`, 1])) }],
    ['a lock that disagrees', { 'package.json': DEPENDS, 'package-lock.json': { packages: { '': {} } } }],
    ['two languages', { 'requirements.txt': 'a==1' }],
    ['requirements', { 'kiln.json': { language: 'python', hooks: { start: 'x' } }, 'requirements.txt': 'a==1' }],
  ])('%s', async (_, content) => {
    await put(content);
    const [here, there] = [sourcesBy(createInProcessInspections()), sourcesBy(pool)];
    expect(await said(there.inspect({ servicePath: 'api' }))).toEqual(await said(here.inspect({ servicePath: 'api' })));
    const [packedHere, packedThere] = [
      await here.pack({ servicePath: 'api' }),
      await there.pack({ servicePath: 'api' }),
    ];
    expect({ ...packedThere, tarPath: '' }).toEqual({ ...packedHere, tarPath: '' });
  });

  it('a folder that is not there, and a path that leads out', async () => {
    const [here, there] = [sourcesBy(createInProcessInspections()), sourcesBy(pool)];
    for (const servicePath of ['none', '../x', '']) {
      expect(await said(there.inspect({ servicePath }))).toEqual(await said(here.inspect({ servicePath })));
    }
  });

  it('an uploaded tar', async () => {
    tar = await tarOf((to) => [file(to, 'a.js'), to.entry({ name: 'package.json' }, JSON.stringify(START))]);
    expect((await sourcesBy(pool).inspect(uploaded)).hooks.start).toBe('node a.js');
    const packed = await sourcesBy(pool).pack(uploaded);
    expect(await readdir(join(root, 'tmp'))).toEqual([packed.tarPath.slice(join(root, 'tmp').length + 1)]);
  });
});

function entries(mib: number): string {
  return Array.from({ length: Math.floor((mib * MIB) / 14) }, (_, n) => `"${n.toString(36)}":{}`).join(',');
}

function everything() {
  return {
    language: 'node',
    hooks: { preBuild: 'a', build: 'b', start: 'c' },
    outputs: ['dist'],
    env: { required: ['A'] },
    health: { path: '/up', failures: 5 },
    resources: { memMib: 700, vcpus: 2 },
    egress: { allow: ['api.example.com'] },
  };
}

async function tarOf(fill: (to: Pack) => unknown): Promise<Buffer> {
  const to = pack();
  fill(to);
  to.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of to) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function file(to: Pack, name: string, bytes = 0): void {
  to.entry({ name, type: 'file' }, Buffer.alloc(bytes));
}

function files(to: Pack, count: number): void {
  for (let n = 0; n < count; n++) file(to, `f${n}`);
}
