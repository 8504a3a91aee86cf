/** A host over the fake driver: real processes, disks, ports and channels, and a service to run in it. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readSetupRecord } from '../../../config/setup-record.ts';
import type { VmOwner } from '../../../domain/vm.ts';
import { createHost, type Host, type HostOptions } from '../../../host/host.ts';
import type { VmDriver } from '../../../ports/vm-driver.ts';
import { createSparseCopyProvisioner } from '../../../rootfs/provisioners/sparse-copy.ts';
import { createFakeDriver } from '../../../vmm/fake/fake-driver.ts';
import { silentLogger } from '../workers/silent-logger.ts';

export const IMAGE_DIGEST = `sha256:${'0'.repeat(64)}`;
export const HOST_TOKEN = 'a-token-of-this-stack';
export const GUEST_PORT = 8080;
const LOOK_AGAIN_MS = 5;

/** Answers with its pid and its number of requests, so that a restart would show, and logs a line for each request. */
const SERVICE = `
  let n = 0;
  const server = require('node:http').createServer((request, response) => {
    console.log('request ' + ++n);
    response.end(process.pid + ' ' + n);
  });
  process.on('SIGTERM', () => { console.error('bye'); process.exit(3); });
  server.listen(${GUEST_PORT}, () => console.log('listening'));
`;

export interface FakeHostPlaces {
  readonly root: string;
  readonly stateDir: string;
  readonly runtimeDir: string;
}

export function placesBelow(root: string): FakeHostPlaces {
  return { root, stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
}

export function fakeDriverAt(
  places: FakeHostPlaces,
  guests: { readonly egressPorts?: readonly number[] } = {},
): VmDriver {
  return createFakeDriver({
    ...places,
    ...guests,
    allowFake: true,
    agentBinary: readSetupRecord().agent.path,
    asRoot: process.getuid?.() === 0,
    log: silentLogger,
    timings: { pollMs: 10 },
  });
}

/** @returns a host that is not started yet. Its image is two small files: the fake driver opens no disk. */
export async function createFakeHost(
  places: FakeHostPlaces,
  ports: Pick<HostOptions, 'store' | 'owners' | 'driver'> & Partial<HostOptions>,
): Promise<Host> {
  const rootfsPath = join(places.root, 'rootfs.ext4');
  const workspacePath = join(places.root, 'workspace.ext4');
  await mkdir(join(places.root, 'project'), { recursive: true });
  await writeFile(rootfsPath, 'root');
  await writeFile(workspacePath, 'workspace');
  return createHost({
    ...places,
    hostId: 'h1',
    projectRoot: join(places.root, 'project'),
    provisioner: createSparseCopyProvisioner(),
    images: {
      ensure: async (digest) => ({
        name: 'test',
        digest,
        kernelPath: '/none/vmlinux',
        initrdPath: '/none/initrd',
        rootfsPath,
        workspacePath,
        rootfsBytes: 4,
        sha256: { kernel: 'none', rootfs: 'none' },
      }),
    },
    cachedImages: async () => [IMAGE_DIGEST],
    capacity: ports.capacity ?? { vcpus: 4, memMib: 4096 },
    token: HOST_TOKEN,
    versions: {},
    logger: silentLogger,
    ...ports,
    settings: {
      logs: { flushMs: 1, reattachPauseMs: 1 },
      sweep: { everyMs: 3_600_000, graceMs: 0 },
      ...ports.settings,
    },
  });
}

export function ownerOf(workloadId: string): VmOwner {
  return {
    workflowId: `workload/${workloadId}`,
    firstExecutionId: 'first',
    namespaceId: 'ns',
    epoch: 0,
    boot: 0,
    role: 'service',
  };
}

/** Provisions and boots a VM for the workload. */
export async function bootVm(host: Host, vmId: string, workloadId: string): Promise<number> {
  const resources = { vcpus: 1, memMib: 128 };
  await host.vms.provision({ vmId, owner: ownerOf(workloadId), imageDigest: IMAGE_DIGEST, resources });
  const { pid } = await host.vms.boot({ vmId, hostname: workloadId, deadlineMs: 30_000 });
  return pid;
}

/** Boots a VM, starts the service in it and opens its port; may be called again. @returns once the service listens */
export async function deployService(
  host: Host,
  vmId: string,
  workloadId: string,
  argv: readonly string[] = ['node', '-e', SERVICE],
): Promise<{ pid: number; port: number; url: string }> {
  const pid = await bootVm(host, vmId, workloadId);
  const opened = await host.vms.openPort({ vmId, guestPort: GUEST_PORT });
  const exec = { execId: 'service', argv, cwd: '/', output: 'ring' as const };
  await host.services.start({ vmId, workloadId, epoch: 0, exec });
  const watching = new AbortController();
  try {
    const ended = host.services.waitExit(vmId, watching.signal).then(({ exit, tail }) => {
      throw new Error(`the service ended before it listened: ${JSON.stringify(exit)} ${tail}`);
    });
    await Promise.race([ended, untilListening(host, vmId, watching.signal)]);
  } finally {
    watching.abort();
  }
  return { pid, ...opened };
}

async function untilListening(host: Host, vmId: string, signal: AbortSignal): Promise<void> {
  const agent = await host.vms.agent(vmId);
  for (;;) {
    const socket = await agent.connectTcp(GUEST_PORT).catch(() => undefined);
    if (socket === undefined) {
      await delay(LOOK_AGAIN_MS, undefined, { signal });
      continue;
    }
    socket.on('error', () => undefined);
    socket.destroy();
    return;
  }
}
