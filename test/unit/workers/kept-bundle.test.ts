import { appendFile, mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { keptWorkflowBundle } from '../../../workers/control/kept-bundle.ts';

const FILES = ['workflows/index.ts', 'workflows/placed/place.ts', 'domain/names.ts', 'temporal/workflow-bundle.ts'];
const LOCKS = ['package-lock.json', 'node_modules/.package-lock.json'];

let root: string;
let directory: string;
let made: number;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-bundles-'));
  directory = join(root, 'cache', 'workflows');
  made = 0;
  for (const name of [...FILES, ...LOCKS]) await write(name, `// ${name}`);
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function write(name: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, name)), { recursive: true });
  await writeFile(join(root, name), text);
}

/** @returns the number of the bundle that a worker is given */
async function bundled(at = directory): Promise<number> {
  const bundle = async () => ({ sourceMap: '', code: `bundle ${++made}\nand more` });
  const { code } = await keptWorkflowBundle({ directory: at, checkout: root, bundle });
  expect(code).toMatch(/^bundle \d\nand more$/);
  return Number(code.split(/\s/)[1]);
}

const aged = (path: string, days: number) => {
  const at = new Date(Date.now() - days * 86_400_000);
  return utimes(path, at, at);
};

describe('a bundle that is kept', () => {
  it('is made once for the same code', async () => {
    expect([await bundled(), await bundled(), await bundled()]).toEqual([1, 1, 1]);
  });

  it.each([...FILES, ...LOCKS])(
    'is made again after a change of %s, and found again when that is undone',
    async (name) => {
      expect(await bundled()).toBe(1);
      await write(name, 'changed');
      expect(await bundled()).toBe(2);
      await write(name, `// ${name}`);
      expect(await bundled()).toBe(1);
    },
  );

  it('is made again when a file comes or goes, and not for what is no code', async () => {
    expect(await bundled()).toBe(1);
    await write('workflows/README.md', 'words');
    expect(await bundled()).toBe(1);
    await write('domain/vm.ts', '');
    expect(await bundled()).toBe(2);
    await rm(join(root, 'workflows/placed/place.ts'));
    expect(await bundled()).toBe(3);
  });

  it('is made again where the kept one is damaged or cut', async () => {
    expect(await bundled()).toBe(1);
    const [name = ''] = await readdir(directory);
    await appendFile(join(directory, name), '!');
    expect(await bundled()).toBe(2);
    await writeFile(join(directory, name), '');
    expect(await bundled()).toBe(3);
    expect(await bundled()).toBe(3);
  });

  it('is made each time where the folder cannot be used', async () => {
    await write('file', '');
    const unusable = join(root, 'file', 'workflows');
    expect([await bundled(unusable), await bundled(unusable)]).toEqual([1, 2]);
  });

  it('goes when no worker has used it for a month', async () => {
    await bundled();
    const [first = ''] = await readdir(directory);
    await aged(join(directory, first), 40);
    // A use keeps it.
    await bundled();
    await write('domain/names.ts', 'changed');
    await bundled();
    expect(await readdir(directory)).toHaveLength(2);
    await aged(join(directory, first), 40);
    await write('domain/names.ts', 'changed again');
    await bundled();
    const left = await readdir(directory);
    expect(left).toHaveLength(2);
    expect(left).not.toContain(first);
  });
});
