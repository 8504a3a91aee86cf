import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { lockStack } from '../../../cli/dev/stack-lock.ts';

const refused = vi.hoisted(() => ({ code: '' }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  return {
    ...real,
    link: (from: string, to: string) =>
      refused.code === '' ? real.link(from, to) : Promise.reject(Object.assign(new Error('no'), refused)),
  };
});

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'kiln-lock-'));
});
afterEach(async () => {
  refused.code = '';
  await rm(home, { recursive: true, force: true });
});

describe('the lock of a stack', () => {
  it('is one: whoever comes second is told who has it, until it is given back', async () => {
    const giveBack = await lockStack(home);
    await expect(lockStack(home)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(`pid ${process.pid}`),
    });
    await giveBack();
    await (await lockStack(home))();
    expect(await readdir(home)).toEqual([]);
  });

  it('of a dead process is taken over', async () => {
    await mkdir(home, { recursive: true });
    await writeFile(join(home, 'dev.lock'), '2147483646 1');
    await (await lockStack(home))();
    expect(await readdir(home)).toEqual([]);
  });

  it('on a file system without hard links says what to do, instead of trying for ever', async () => {
    refused.code = 'EPERM';
    await expect(lockStack(home)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      details: { fix: expect.stringContaining('KILN_HOME') },
    });
    expect(await readdir(home)).toEqual([]);
  });
});
