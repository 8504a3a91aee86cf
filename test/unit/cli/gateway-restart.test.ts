import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CliContext, DEFAULT_CLI_TIMINGS } from '../../../cli/cli-context.ts';
import { commandOutput } from '../../../cli/command-output.ts';
import { freePort } from '../../../cli/dev/free-port.ts';
import { PROCESSES_FILE, recordProcesses } from '../../../cli/dev/left-processes.ts';
import { type ProcessSpec, ProcessSupervisor } from '../../../cli/dev/process-supervisor.ts';
import { gatewayRestart } from '../../../cli/stack/gateway-restart.ts';

const TIMINGS = { graceMs: 5_000, deadlineMs: 20_000, pollMs: 5 };

describe('kiln gateway restart', () => {
  let home: string;
  let supervisor: ProcessSupervisor;
  let recorded = Promise.resolve();
  let port: number;
  const events: string[] = [];

  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'kiln-restart-'));
    port = await freePort(0);
    supervisor = new ProcessSupervisor({
      logsDir: home,
      readyDeadlineMs: 20_000,
      readyPollMs: 5,
      restartBackoffMs: 1,
      maxRestartBackoffMs: 5,
      stopGraceMs: 5_000,
      onEvent: ({ name, kind }) => {
        events.push(`${name} ${kind}`);
        if (kind === 'started')
          recorded = recorded.then(() => recordProcesses(join(home, PROCESSES_FILE), supervisor.pids()));
      },
    });
    const signal = new AbortController().signal;
    await supervisor.start(program('other', 'setInterval(() => {}, 1000)'), signal);
    const server = `require('http').createServer((_, r) => r.end('ok')).listen(${port}, '127.0.0.1')`;
    await supervisor.start(program('gateway', server), signal);
  });
  afterEach(async () => {
    await supervisor.stopAll();
    await recorded;
    await rm(home, { recursive: true });
  });

  const program = (name: string, script: string): ProcessSpec => ({
    name,
    command: process.execPath,
    args: ['-e', script],
    env: {},
    isReady: async () =>
      name === 'other' ||
      fetch(`http://127.0.0.1:${port}`)
        .then(({ ok }) => ok)
        .catch(() => false),
  });

  const context = (local: boolean): CliContext => {
    const apiUrl = `http://127.0.0.1:${port}`;
    const stack = {
      pid: process.pid,
      apiUrl,
      token: 't',
      temporal: { address: 'a', uiUrl: '', namespace: 'n' },
      s3: { endpoint: 'e', bucket: 'b' },
      hostId: 'h',
    };
    return {
      stdout: { write: () => true },
      stderr: { write: () => true },
      findStack: async () => ({ apiUrl, token: 't', source: 'x', ...(local ? { local: { home, stack } } : {}) }),
      connect: () => Promise.reject(new Error('not needed')),
      interruptible: () => ({ signal: new AbortController().signal, release: () => undefined }),
      begin: () => undefined,
      exit: () => undefined,
      now: Date.now,
      timings: DEFAULT_CLI_TIMINGS,
    };
  };
  const restart = (local: boolean) => gatewayRestart(context(local), commandOutput(context(local), true), TIMINGS);

  it('brings another process of the gateway, and leaves every other one as it is', async () => {
    await recorded;
    const before = supervisor.pids();
    expect(await restart(true)).toBe(0);
    const after = supervisor.pids();
    expect(after.gateway).not.toBe(before.gateway);
    expect(after.other).toBe(before.other);
    expect(events.filter((event) => event.startsWith('other'))).toEqual(['other started']);
  });

  it('refuses a gateway that no stack of this machine runs', async () => {
    await expect(restart(false)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});
