import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectAgent } from '../../vmm/agent/connect-agent.ts';
import { createQemuDriver } from '../../vmm/qemu/qemu-driver.ts';
import { vmPaths } from '../../vmm/vm-paths.ts';
import { describeAgentChannel } from '../conformance/agent-channel/agent-channel-suite.ts';
import { identity } from '../conformance/vm-driver/vm-driver-suite.ts';
import { imageVmSpec, silentLog, testTscRate } from '../support/host/vm-fixtures.ts';

const VM_ID = 'agent-1-1';
const DEADLINE_MS = 60_000;

describeAgentChannel({
  name: 'agent in QEMU',
  ownClock: true,
  groups: true,
  async start() {
    const root = await mkdtemp(join(tmpdir(), 'kq-'));
    const places = { stateDir: join(root, 's'), runtimeDir: join(root, 'r') };
    const driver = createQemuDriver({ ...places, log: silentLog, tscKhz: testTscRate, accel: 'tcg' });
    const directory = join(places.stateDir, 'vms', VM_ID);
    await mkdir(directory, { recursive: true });
    await driver.prepare(await imageVmSpec(VM_ID, directory));
    const vm = await driver.start(VM_ID, { identity: identity(VM_ID), deadlineMs: DEADLINE_MS });
    await vm.agent.detach();
    const { agentSocket } = vmPaths(places, VM_ID);
    return {
      attach: () => connectAgent({ connect: agentSocket, deadlineMs: DEADLINE_MS }),
      async openWire() {
        const socket = connect(agentSocket);
        await once(socket, 'connect');
        return socket;
      },
      async ended() {
        await driver.waitExit(VM_ID);
      },
      async destroy() {
        await driver.destroy(VM_ID);
        await rm(root, { recursive: true, force: true });
      },
    };
  },
});
