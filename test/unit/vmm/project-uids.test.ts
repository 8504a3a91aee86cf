import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createProjectUids, usableUidRange } from '../../../vmm/project-uids.ts';

describe('users of projects', () => {
  let stateDir: string;
  beforeEach(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'uids-'));
  });
  afterEach(() => rm(stateDir, { recursive: true }));

  it('are different, also where hashes collide, and stay the same after a restart', async () => {
    const range = { from: 5000, count: 4 };
    const names = ['a', 'b', 'c', undefined];
    const uids = await Promise.all(names.map((name) => createProjectUids(stateDir, range).uidOf(name)));
    expect([...uids].sort()).toEqual([5000, 5001, 5002, 5003]);
    const again = createProjectUids(stateDir, range);
    expect(await Promise.all(names.map((name) => again.uidOf(name)))).toEqual(uids);
    await expect(again.uidOf('one too many')).rejects.toMatchObject({ code: 'NO_CAPACITY' });
  });

  it('are not guessed where the file of the assignments is damaged', async () => {
    await createProjectUids(stateDir, { from: 5000, count: 4 }).uidOf('a');
    const path = join(stateDir, 'project-uids.json');
    await writeFile(path, (await readFile(path, 'utf8')).slice(0, 5));
    await expect(createProjectUids(stateDir, { from: 5000, count: 4 }).uidOf('b')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
  });

  it.each([
    ['a whole machine', '         0          0 4294967295\n', undefined, 1_879_100_000],
    ['a container with the lower 16 bits', '0 100000 65536\n', undefined, 30_000],
    ['a user that is called root', '0 1000 1\n', undefined, undefined],
    ['a chosen base', '0 0 4294967295', 300_000, 300_000],
  ])('lie in a range that exists: %s', (_, map, base, from) => {
    expect(usableUidRange(map, base)?.from).toBe(from);
  });

  it('a chosen base that does not exist is refused', () => {
    expect(() => usableUidRange('0 100000 65536', 300_000)).toThrow('KILN_VMM_UID_BASE=300000');
  });
});
