import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { connectAgent } from '../../../vmm/agent/connect-agent.ts';
import { agentBinary } from '../../support/guest/agent-binary.ts';
import type { GuestUnderTest } from '../../support/guest/guest-under-test.ts';
import { describeAgentChannel } from './agent-channel-suite.ts';

const DEADLINE_MS = 20_000;

/** Runs the agent as a plain process in namespaces of its own, on a unix socket. */
async function startProcessGuest(): Promise<GuestUnderTest> {
  const directory = await mkdtemp(join(tmpdir(), 'ka-'));
  const socketPath = join(directory, 'agent.sock');
  const words = ['--listen', `unix:${socketPath}`, '--root', join(directory, 'guest')];
  const child = spawn(await agentBinary(), [...words, '--path-prefix', dirname(process.execPath)], {
    stdio: 'inherit',
  });
  const exit = once(child, 'exit');
  return {
    attach: () => connectAgent({ connect: socketPath, deadlineMs: DEADLINE_MS }),
    async openWire() {
      const socket = connect(socketPath);
      await once(socket, 'connect');
      return socket;
    },
    async ended() {
      await exit;
    },
    async destroy() {
      if (isRunning(child)) child.kill('SIGKILL');
      await exit;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** An ordinary user may make control groups only where the machine lends him one. */
const groups = process.getuid?.() === 0;
describeAgentChannel({ name: 'agent as a process', ownClock: false, groups, start: startProcessGuest });
