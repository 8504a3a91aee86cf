import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockStack } from '../../../cli/dev/stack-lock.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'kiln-lock-'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

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
    const refused = () => Promise.reject(Object.assign(new Error('no'), { code: 'EPERM' }));
    await expect(lockStack(home, refused)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      details: { fix: expect.stringContaining('KILN_HOME') },
    });
    expect(await readdir(home)).toEqual([]);
  });
});
