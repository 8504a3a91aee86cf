import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildCacheKey, buildSteps } from '../../../activities/building/build-plan.ts';
import { readRequirements } from '../../../contracts/service/python-packages.ts';
import { isKilnError } from '../../../domain/failures.ts';
import { inspectService } from '../../../inspection/folders/service-inspection.ts';

const HASH = `--hash=sha256:${'a'.repeat(64)}`;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kp-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function inspect(files: Record<string, unknown>) {
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return inspectService(folder, 'services/api');
}

describe('requirements.txt', () => {
  it.each([
    ['nothing', '', false, false],
    ['only comments', '# none\n\n   # at all\n', false, false],
    ['a range', 'flask>=2', true, false],
    ['a pin without a hash', 'flask==3.0.0', true, false],
    ['a pin with a hash', `flask==3.0.0 ${HASH}`, true, true],
    ['hashes on lines of their own', `flask==3.0.0 \\\n    ${HASH} \\\n    ${HASH}\n`, true, true],
    ['Windows line ends', `flask==3.0.0 \\\r\n    ${HASH}\r\n`, true, true],
    ['extras and a marker', `a[x,y]==1.0 ; python_version < "4" ${HASH}`, true, true],
    ['options that change nothing', `--require-hashes\n--only-binary :all:\na==1 ${HASH}`, true, true],
    ['one of two without a hash', `a==1 ${HASH}\nb==2`, true, false],
    ['a wildcard', `a==1.* ${HASH}`, true, false],
    ['another file', `-r other.txt\na==1 ${HASH}`, true, false],
    ['another index', `--index-url https://x.example\na==1 ${HASH}`, true, false],
    ['a URL', `a @ https://x.example/a.whl ${HASH}`, true, false],
    ['a short hash', 'a==1 --hash=sha256:abc', true, false],
    ['a folder', '-e .', true, false],
  ])('%s', (_what, text, installs, locked) => {
    expect(readRequirements(text)).toEqual({ installs, locked });
  });

  it('is a lock whatever stands between its lines, and none with one line more that is not pinned', () => {
    const line = fc.tuple(fc.stringMatching(/^[a-z][a-z0-9-]{0,10}$/), fc.stringMatching(/^\d{1,3}\.\d{1,3}$/));
    const between = fc.constantFrom('\n', '\n\n', '\n# words\n', '  # words\n', '\r\n');
    fc.assert(
      fc.property(fc.array(fc.tuple(line, between), { minLength: 1, maxLength: 10 }), (lines) => {
        const text = lines.map(([[name, version], gap]) => `${name}==${version} ${HASH}${gap}`).join('');
        expect(readRequirements(text)).toEqual({ installs: true, locked: true });
        expect(readRequirements(`${text}\nloose>=1\n`).locked).toBe(false);
      }),
    );
  });

  it('never fails', () => {
    fc.assert(fc.property(fc.string({ maxLength: 500, unit: 'binary' }), (text) => void readRequirements(text)));
  });
});

describe('a Python service', () => {
  it('is told by its requirements; main.py or app.py start it', async () => {
    expect(await inspect({ 'requirements.txt': 'flask', 'app.py': '' })).toMatchObject({
      language: 'python',
      hooks: { start: 'python3 app.py' },
      installs: true,
    });
    const both = await inspect({ 'main.py': '', 'requirements.txt': `flask==3.0.0 ${HASH}` });
    expect(both).toMatchObject({ hooks: { start: 'python3 main.py' }, lockFile: 'requirements.txt' });
  });

  it('is told by its pyproject.toml, whose dependencies are what pip gets', async () => {
    const toml = '[project]\nname = "x"\ndependencies = ["flask>=2", "a[b]~=1.0 ; python_version > \'3\'"]\n';
    const manifest = await inspect({ 'pyproject.toml': toml, 'main.py': '' });
    expect(manifest).toMatchObject({ language: 'python', installs: true });
    expect(manifest.requirements).toEqual(['flask>=2', "a[b]~=1.0 ; python_version > '3'"]);
    expect(manifest).not.toHaveProperty('lockFile');
    const last = buildSteps(manifest).at(-1);
    expect(last?.argv.slice(-3)).toEqual(['install', ...(manifest.requirements ?? [])]);
  });

  it('a requirements.txt beside a pyproject.toml counts', async () => {
    const toml = '[project]\ndependencies = ["flask>=2"]\n';
    const manifest = await inspect({ 'pyproject.toml': toml, 'requirements.txt': `flask==3 ${HASH}`, 'main.py': '' });
    expect(manifest).toMatchObject({ lockFile: 'requirements.txt' });
    expect(manifest).not.toHaveProperty('requirements');
    expect(buildSteps(manifest).at(-1)?.argv).toContain('--require-hashes');
  });

  it.each([
    ['broken TOML', '[project\n', 'line 1'],
    ['dependencies from elsewhere', '[project]\ndynamic = ["dependencies"]\n', '[project]'],
    ['Poetry', '[tool.poetry]\nname = "x"\n', 'requirements.txt'],
    ['an option in place of a package', '[project]\ndependencies = ["--index-url=http://x"]\n', 'PEP 508'],
    ['a wrong type', '[project]\ndependencies = "flask"\n', 'project.dependencies'],
  ])('%s: CONFIG_INVALID', async (_what, toml, says) => {
    await expect(inspect({ 'pyproject.toml': toml, 'main.py': '' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(says),
    });
  });

  it('any pyproject.toml is read or refused in words', async () => {
    await mkdir(join(folder, 'sub'));
    const value = fc.oneof(fc.string({ maxLength: 30 }), fc.constantFrom('[]', '["a"]', '1', '{a=1}', '"x"'));
    const line = fc.tuple(fc.constantFrom('dependencies', 'dynamic', 'name', '[project]', '[[project]]'), value);
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 6 }), async (lines) => {
        const text = `[project]\n${lines.map(([key, right]) => (key.startsWith('[') ? key : `${key} = ${right}`)).join('\n')}`;
        const error: unknown = await inspect({ 'pyproject.toml': text, 'main.py': '' }).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (error !== undefined) expect(isKilnError(error, 'CONFIG_INVALID'), String(error)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  it('that is one of Node too has to say which', async () => {
    await expect(inspect({ 'package.json': {}, 'requirements.txt': '', 'main.py': '' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('"language"'),
    });
    const kiln = { language: 'python', hooks: { start: 'python3 main.py' } };
    expect(await inspect({ 'kiln.json': kiln })).toMatchObject({ language: 'python' });
  });

  it('that cannot be started is refused', async () => {
    await expect(inspect({ 'requirements.txt': '' })).rejects.toThrow('main.py or app.py');
    const kiln = { hooks: { start: 'python3 -u server.py' } };
    await expect(inspect({ 'kiln.json': kiln })).rejects.toThrow('there is no server.py');
  });

  it('keeps its packages beside what it names as outputs', async () => {
    const kiln = { outputs: ['main.py'] };
    expect((await inspect({ 'kiln.json': kiln, 'requirements.txt': 'a', 'main.py': '' })).outputs).toEqual([
      '.venv',
      'main.py',
    ]);
  });
});

describe('a service without a language', () => {
  it('is its hooks', async () => {
    expect(await inspect({ 'kiln.json': { language: 'none', hooks: { start: './run' } } })).toMatchObject({
      language: 'none',
      hooks: { start: './run' },
      installs: false,
    });
  });

  it('has to have one that starts it', async () => {
    await expect(inspect({ 'kiln.json': { language: 'none' } })).rejects.toThrow('hooks.start');
  });
});

describe('the build cache', () => {
  const facts = { sourceSha256: 's', lockSha256: undefined, imageDigest: 'i', env: {}, registries: 'r' };

  it('is for builds that always make the same', async () => {
    const loose = await inspect({ 'requirements.txt': 'a', 'main.py': '' });
    expect(buildCacheKey({ ...facts, manifest: loose })).toBeUndefined();
    const locked = await inspect({ 'requirements.txt': `a==1 ${HASH}` });
    expect(buildCacheKey({ ...facts, manifest: locked })).toMatch(/^[0-9a-f]{64}$/);
    expect(buildCacheKey({ ...facts, manifest: locked, registries: 'other' })).not.toBe(
      buildCacheKey({ ...facts, manifest: locked }),
    );
  });
});
