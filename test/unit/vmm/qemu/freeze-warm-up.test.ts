/** A guest that is to be frozen but whose warm-up never ends: scripted, behind a VMM that is stopped. */
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FreezeRequest } from '../../../../ports/vm-driver.ts';
import { FRAME } from '../../../../vmm/agent/frames.ts';
import { plainLimits } from '../../../../vmm/limits/plain-limits.ts';
import { freezeGuest, freezeSockets } from '../../../../vmm/qemu/templates/template-freeze.ts';
import { commandLines } from '../../../../vmm/vm-process.ts';
import { type ScriptedGuest, scriptedGuest } from '../../../support/guest/scripted-guest.ts';
import { plainVmSpec } from '../../../support/host/vm-fixtures.ts';

const NAME = 'abc-1';

let root: string;
let guest: ScriptedGuest;
let server: Server;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kz-'));
  guest = scriptedGuest();
  await mkdir(join(root, 'template'));
  await mkdir(freezeSockets(join(root, 'run'), NAME), { recursive: true });
  server = createServer((connection) => {
    for (const end of [connection, guest.host]) end.on('error', () => undefined);
    connection.pipe(guest.host).pipe(connection);
  });
  server.listen(join(freezeSockets(join(root, 'run'), NAME), 'a.sock'));
  await once(server, 'listening');
  await writeFile(join(root, 'vmm'), '#!/bin/sh\nkill -STOP $$\n');
  await chmod(join(root, 'vmm'), 0o755);
});
afterEach(async () => {
  server.close();
  await rm(root, { recursive: true });
});

function freeze(more: Pick<FreezeRequest, 'deadlineMs' | 'signal'>): Promise<void> {
  const { vmId: _, owner: __, ...spec } = plainVmSpec('abc-1-1');
  return freezeGuest(
    { directory: join(root, 'template'), name: NAME, spec, warm: [['node', '--version']], ...more },
    {
      machine: { binary: join(root, 'vmm'), accel: 'tcg', tbSizeMib: 1, tscKhz: 1_000_000 },
      runtimeDir: join(root, 'run'),
      limits: plainLimits,
      release: { pollMs: 1, timeoutMs: 10_000 },
    },
  );
}

async function programStarts(): Promise<void> {
  const { stream } = await guest.receive(FRAME.open);
  guest.send(FRAME.opened, stream, '{"pid":7,"existed":false}');
}

async function expectNothingLeft(): Promise<void> {
  expect(await readdir(join(root, 'run'))).toEqual([]);
  const running = await commandLines();
  expect(running.filter(({ argv }) => argv.some((word) => word.includes(root)))).toEqual([]);
}

describe('a freeze whose warm-up hangs', () => {
  it('ends with its deadline, and leaves nothing', async () => {
    const freezing = freeze({ deadlineMs: 1_000 });
    void programStarts();
    await expect(freezing).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    await expectNothingLeft();
  });

  it('ends when it is cancelled, and leaves nothing', async () => {
    const cancelling = new AbortController();
    const freezing = freeze({ deadlineMs: 600_000, signal: cancelling.signal });
    freezing.catch(() => undefined);
    await programStarts();
    cancelling.abort();
    await expect(freezing).rejects.toMatchObject({ code: 'CANCELLED' });
    await expectNothingLeft();
  });
});
