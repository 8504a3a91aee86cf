/** The model of a workspace against the kernel: scripts of random changes, run by bash in a folder. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../../chaos/random.ts';
import { WALK, walksOf } from '../../../chaos/sessions/guest-walk.ts';
import { differences, Tree } from '../../../chaos/sessions/tree.ts';
import { randomChanges } from '../../../chaos/sessions/tree-changes.ts';

const run = promisify(execFile);
const ROUNDS = 25;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kiln-model-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function bash(script: string) {
  const { stdout } = await run('bash', ['-c', `umask 022; ${WALK}\n${script}\nwalk`], {
    cwd: folder,
    encoding: 'buffer',
    maxBuffer: 1e8,
  });
  const [walk] = walksOf(stdout);
  if (walk === undefined) throw new Error('no walk');
  return walk;
}

describe('the model of a workspace', () => {
  it.each([1, 2, 3])('is what bash makes of the same changes, seed %d', async (seed) => {
    const random = new SeededRandom(seed);
    const tree = new Tree(new Map([['', { kind: 'folder', mode: 0o700, uid: 0, gid: 0, mtime: undefined }]]));
    tree.learnTimes(await bash(''));
    for (let round = 0; round < ROUNDS; round++) {
      const changes = randomChanges(random, tree, { count: random.between(1, 12), id: `r${round}` });
      const walked = await bash(`set -e\n${changes.script}`);
      changes.apply(tree);
      expect(differences(tree.seen(), walked), changes.script).toEqual([]);
      expect(tree.copy().seen()).toEqual(tree.seen());
    }
    expect(tree.size).toBeGreaterThan(20);
  });

  it('differs where anything of an entry does', async () => {
    const expected = await bash('echo one > f; ln f g; ln -s f l; mkdir d; touch -h -d @5.000000001 f l d .');
    const others = ['chmod 600 f', 'chown 1:0 d', 'chown -h 0:2 l', 'touch -d @5.000000002 g', 'rm l', 'echo > new'];
    for (const other of [...others, 'rm f', 'cp -a f f2 && mv f2 f', 'ln -sfn g l', 'rm -r d && touch d']) {
      await bash('rm -rf *; echo one > f; ln f g; ln -s f l; mkdir d; touch -h -d @5.000000001 f l d .');
      expect(differences(expected, await bash(other)), other).not.toEqual([]);
    }
    const same = await bash('rm -rf *; echo one > f; ln f g; ln -s f l; mkdir d; touch -h -d @5.000000001 f l d .');
    expect(differences(expected, same)).toEqual([]);
  });
});
