import { mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeRuntimeDirectory } from '../../vmm/vm-user.ts';

describe('the folder of a VM’s sockets', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kiln-run-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  it('is made for its owner only', async () => {
    await makeRuntimeDirectory(join(root, 'run', 'a-1-1'));
    expect((await stat(join(root, 'run', 'a-1-1'))).mode & 0o777).toBe(0o700);
  });

  it('is refused where somebody has put a link in its place', async () => {
    await mkdir(join(root, 'elsewhere'));
    await symlink(join(root, 'elsewhere'), join(root, 'run'));
    await expect(makeRuntimeDirectory(join(root, 'run', 'a-1-1'))).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});
