import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { endLeftProcesses, PROCESSES_FILE, processMark, recordProcesses } from '../../../cli/dev/left-processes.ts';

const PATIENCE = { graceMs: 5_000, pollMs: 5 };

describe('what an earlier stack left', () => {
  let home: string;
  const groups: number[] = [];
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'kiln-left-'));
  });
  afterEach(async () => {
    for (const pid of groups.splice(0)) {
      try {
        process.kill(-pid, 'SIGKILL');
      } catch {
        // It has already ended, as it should.
      }
    }
    await rm(home, { recursive: true });
  });

  const started = async (mark: Record<string, string>) => {
    const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore', env: { PATH: '/usr/bin:/bin', ...mark } });
    await once(child, 'spawn');
    const { pid } = child;
    if (pid === undefined) throw new Error('it was spawned');
    groups.push(pid);
    return { pid, ended: once(child, 'exit') };
  };

  it('is ended though its supervisor died before it recorded it, and another home is left alone', async () => {
    const unrecorded = await started(processMark(home, 's3'));
    const foreign = await started(processMark(`${home}-other`, 's3'));
    expect(await endLeftProcesses(join(home, PROCESSES_FILE), home, PATIENCE)).toEqual(['s3']);
    await unrecorded.ended;
    expect(() => process.kill(foreign.pid, 0)).not.toThrow();
  });

  it('is ended once where it was recorded too, workers before servers', async () => {
    const server = await started(processMark(home, 'temporal'));
    const worker = await started(processMark(home, 'host'));
    await recordProcesses(join(home, PROCESSES_FILE), { temporal: server.pid });
    expect(await endLeftProcesses(join(home, PROCESSES_FILE), home, PATIENCE)).toEqual(['host', 'temporal']);
    await Promise.all([server.ended, worker.ended]);
  });
});
