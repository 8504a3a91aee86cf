/** What GNU tar makes of an archive, seen with the tools of this machine. */
import { execFile } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { WALK, walksOf } from './guest-walk.ts';
import type { SeenTree } from './tree.ts';

const run = promisify(execFile);
const MOST_BYTES = 64 * 1024 * 1024;

/** Unpacks it as root. @throws Error where tar does not take it */
export async function walkOfTar(tar: ReadableStream<Uint8Array>): Promise<SeenTree> {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-turn-'));
  try {
    const [archive, folder] = [join(directory, 'it.tar'), join(directory, 'workspace')];
    await pipeline(Readable.from(tar), createWriteStream(archive));
    await mkdir(folder);
    await run('tar', ['-xpf', archive, '--numeric-owner'], { cwd: folder });
    const { stdout } = await run('bash', ['-c', `${WALK}\nwalk`], {
      cwd: folder,
      encoding: 'buffer',
      maxBuffer: MOST_BYTES,
    });
    const [walk] = walksOf(stdout);
    if (walk === undefined) throw new Error('no walk');
    return walk;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
