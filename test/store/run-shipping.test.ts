/** Output of runs on its way from a host's files into a real store, and back to readers. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KilnError } from '../../domain/failures.ts';
import { openRunOutput, type RunOutput } from '../../host/runs/run-output.ts';
import { createRunShipper, type RunShipper } from '../../host/runs/run-shipper.ts';
import type { ExecOutput } from '../../ports/guest-agent.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createRunOutputs, type RunOutputs } from '../../store/sessions/run-outputs.ts';
import { freshObjectStore } from '../support/servers/object-store.ts';
import { silentLogger } from '../support/workers/silent-logger.ts';

const RUN = { vmId: 'abc-1-1', turn: 3 };
const OWNER = { session: { project: 'default', thread: 't', incarnation: 2 }, runId: 'msg-1' };
const CHUNK = 1024;

let directory: string;
let store: ObjectStore;
let outputs: RunOutputs;
let isOver = false;
let isAway = false;
let isDeleted = false;
let file: RunOutput;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-ship-'));
  store = await freshObjectStore();
  outputs = createRunOutputs(store);
  isOver = false;
  isAway = false;
  isDeleted = false;
  await mkdir(join(directory, RUN.vmId));
  file = await openRunOutput(join(directory, RUN.vmId, '3'), { maxBytes: 1_000_000 });
});
afterEach(async () => {
  await file.close();
  store.close();
  await rm(directory, { recursive: true });
});

function shipper(keepMs = 60_000, everyMs = 60_000): RunShipper {
  return createRunShipper({
    directory,
    outputs: {
      write: async (...written) => {
        if (isAway) throw new KilnError('STORE_UNAVAILABLE', 'away');
        await outputs.write(...written);
      },
    },
    isOver: async () => isOver,
    isDeleted: async () => isDeleted,
    everyMs,
    chunkBytes: CHUNK,
    keepMs,
    logger: silentLogger,
  });
}

async function take(text: string): Promise<void> {
  const data = Buffer.from(text);
  await file.take({ kind: 'data', stream: 'stdout', offset: file.end, data });
}

async function stored(after = 0): Promise<string> {
  let text = '';
  for (let position = after; ; ) {
    const pieces = await outputs.read({ ...OWNER, vmId: RUN.vmId }, position);
    if (pieces.length === 0) return text;
    for (const piece of pieces) {
      text += shown(piece);
      position = piece.offset + (piece.kind === 'gap' ? piece.bytes : piece.data.length);
    }
  }
}

const shown = (piece: ExecOutput) => (piece.kind === 'gap' ? `[${piece.bytes} lost]` : piece.data.toString());

describe('output of a run', () => {
  it('goes no further once its session is deleted', async () => {
    const ship = shipper();
    await ship.expect(RUN, OWNER);
    await take('before');
    await ship.ship(RUN);
    isDeleted = true;
    isOver = true;
    await take(' and after');
    await ship.ship(RUN);
    expect(await stored()).toBe('before');
    // It is done with: its file waits to be removed like any other.
    isDeleted = false;
    await ship.ship(RUN);
    expect(await stored()).toBe('before');
  });

  it('is shipped as far as it goes, and read from any position', async () => {
    const ship = shipper();
    await ship.expect(RUN, OWNER);
    // One of them is longer than a chunk.
    const lines = Array.from({ length: 200 }, (_, n) => `line ${n}${n === 150 ? '.'.repeat(3 * CHUNK) : ''}\n`);
    for (const line of lines.slice(0, 100)) await take(line);
    await ship.ship(RUN);
    expect(await stored()).toBe(lines.slice(0, 100).join(''));
    for (const line of lines.slice(100)) await take(line);
    await file.take({ kind: 'gap', offset: file.end, bytes: 7 });
    isOver = true;
    await ship.ship(RUN);
    const whole = `${lines.join('')}[7 lost]`;
    for (const after of [0, 1, 500, 1029, whole.length - 20]) expect(await stored(after)).toBe(whole.slice(after));
    expect(await outputs.read({ ...OWNER, vmId: 'another-1-1' }, 0)).toEqual([]);
  });

  it('waits for a store that is away, in whatever process, and comes once', async () => {
    const first = shipper();
    await first.expect(RUN, OWNER);
    await take('early ');
    isAway = true;
    await expect(first.ship(RUN)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    isAway = false;
    isOver = true;
    const next = shipper(60_000, 5);
    next.start();
    while ((await stored()) !== 'early ') await delay(5);
    await next.stop();
    await next.expect(RUN, OWNER);
    await next.ship(RUN);
    expect(await stored()).toBe('early ');
  });

  it('is removed from the host only once it is in the store, whole', async () => {
    const ship = shipper(0, 5);
    await ship.expect(RUN, OWNER);
    await take('all of it');
    ship.start();
    while ((await stored()) === '') await delay(5);
    expect(await readdir(join(directory, RUN.vmId))).toContain('3');
    isOver = true;
    while ((await readdir(directory)).length > 0) await delay(5);
    await ship.stop();
    expect(await stored()).toBe('all of it');
  });
});
