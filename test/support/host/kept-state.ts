/** Recreates on this machine the state that an earlier Kiln has left, as saved by `npm run keep-state`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { access, mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { readSetupRecord } from '../../../config/setup-record.ts';
import { identify } from '../../../linux/process-identity.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { type FakeHostPlaces, fakeDriverAt } from './fake-host.ts';

const KEPT = fileURLToPath(new URL('../../fixtures/state', import.meta.url));
const POLL_MS = 10;

/** The API's answer for a workload when the state was saved. */
const viewSchema = z.looseObject({
  links: z.unknown(),
  stage: z.string(),
  code: z.string().exactOptional(),
  containerId: z.string().exactOptional(),
  transitions: z.array(z.looseObject({ at: z.string() })),
  logs: z.array(z.looseObject({ message: z.string() })),
});
/** The text of each stream. */
const outputsSchema = z.record(z.string(), z.object({ stdout: z.string(), stderr: z.string() }));
const runSchema = z.looseObject({ id: z.string(), state: z.string() });
const keptSessionSchema = z.object({
  /** What was sent to the thread. */
  sent: z.array(z.object({ id: z.string(), command: z.array(z.string()) })),
  /** The API's answers when the state was saved. */
  session: z.looseObject({ links: z.unknown(), tier: z.string() }),
  runs: z.array(runSchema),
  outputs: outputsSchema,
});
export type KeptSession = z.infer<typeof keptSessionSchema>;

const keptSchema = z.object({
  hostId: z.string(),
  objects: z.array(
    z.object({
      key: z.string(),
      metadata: z.record(z.string(), z.string()),
      leftOutBytes: z.int().exactOptional(),
    }),
  ),
  leftOut: z.array(z.object({ path: z.string(), bytes: z.int() })),
  vms: z.array(z.object({ pid: z.int(), argv: z.array(z.string()), isStopped: z.literal(true).exactOptional() })),
  views: z.record(z.string(), viewSchema),
  /** By thread; absent where that version had no sessions. */
  sessions: z.record(z.string(), keptSessionSchema).exactOptional(),
  /** The session whose VM waits paused: its last run ended while the store was silent. */
  atRest: z
    .object({ outputs: outputsSchema, listed: z.looseObject({ thread: z.string(), tier: z.string() }) })
    .exactOptional(),
});

/** The part of an instance record that is only valid on the machine that wrote it. */
const recordSchema = z.looseObject({
  owner: z.looseObject({
    workflowId: z.string(),
    firstExecutionId: z.string(),
    epoch: z.int(),
    role: z.string(),
  }),
  process: z.looseObject({ pid: z.int() }),
  ports: z.array(z.object({ guestPort: z.int(), hostPort: z.int() })),
});

export type KeptState = z.infer<typeof keptSchema> & { readonly name: string };

export interface StandIn {
  readonly vmId: string;
  readonly workflowId: string;
  readonly owner: z.infer<typeof recordSchema>['owner'];
  readonly pid: number;
  readonly ports: readonly number[];
  readonly child: ChildProcess;
}

/** @returns the names of all saved states */
export async function keptStates(): Promise<string[]> {
  const entries = await readdir(KEPT, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

export async function readKept(name: string): Promise<KeptState> {
  return { ...keptSchema.parse(JSON.parse(await readFile(join(KEPT, name, 'kept.json'), 'utf8'))), name };
}

/** Puts the saved objects into a store, without those that were too large to save. */
export async function fillStore(store: ObjectStore, kept: KeptState): Promise<void> {
  for (const { key, metadata, leftOutBytes } of kept.objects) {
    if (leftOutBytes !== undefined) continue;
    const data = await readFile(join(KEPT, kept.name, 'store', key));
    const { sha256 } = metadata;
    if (sha256 === undefined && key.endsWith('.json'))
      await store.writeDocument(key, JSON.parse(data.toString('utf8')));
    else await store.putBlob(key, { data }, sha256 === undefined ? {} : { expectedSha256: sha256 });
  }
}

/** Recreates the host's state folder, with sparse files in place of large files. */
export async function layOutHost(places: FakeHostPlaces, kept: KeptState): Promise<void> {
  const from = join(KEPT, kept.name, 'host');
  for (const entry of await readdir(from, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const bytes = await readFile(path);
    const text = bytes.toString('latin1');
    const to = join(places.stateDir, relative(from, path));
    await mkdir(dirname(to), { recursive: true });
    await writeFile(to, text.includes('{{') ? Buffer.from(filledIn(text, places), 'latin1') : bytes);
  }
  for (const { path, bytes } of kept.leftOut) {
    const to = join(places.stateDir, path);
    await mkdir(dirname(to), { recursive: true });
    const file = await open(to, 'w');
    await file.truncate(bytes);
    await file.close();
  }
}

/**
 * Starts processes in place of the VMs that ran, with the same command lines, and writes into their records the values
 * that have changed: pid, start time, ports. One whose process was stopped is paused by the driver: today's SIGSTOP.
 */
export async function startStandIns(places: FakeHostPlaces, kept: KeptState): Promise<StandIn[]> {
  const standIns: StandIn[] = [];
  for (const vmId of await readdir(join(places.stateDir, 'vms'))) {
    const path = join(places.stateDir, 'vms', vmId, 'instance.json');
    const record = recordSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    const vm = kept.vms.find(({ pid }) => pid === record.process.pid);
    if (vm === undefined) throw new Error(`the process of ${vmId} was not kept`);
    const [program = '', ...args] = vm.argv.map((word) => filledIn(word, places));
    const socketDir = join(places.runtimeDir, vmId);
    await mkdir(socketDir, { recursive: true });
    const child = spawn(program, args, { stdio: 'ignore', detached: true });
    await untilThere(join(socketDir, 'agent.sock'), child);
    const identity = await identify(child.pid ?? 0);
    const ports = await Promise.all(record.ports.map(async (port) => ({ ...port, hostPort: await freePort() })));
    await writeFile(path, JSON.stringify({ ...record, process: identity, ports }));
    if (vm.isStopped) await fakeDriverAt(places).pause(vmId);
    const { owner } = record;
    const hostPorts = ports.map(({ hostPort }) => hostPort);
    standIns.push({ vmId, workflowId: owner.workflowId, owner, pid: child.pid ?? 0, ports: hostPorts, child });
  }
  return standIns;
}

function filledIn(text: string, { root, stateDir, runtimeDir }: FakeHostPlaces): string {
  return text
    .replaceAll('{{HOST}}', stateDir)
    .replaceAll('{{RUN}}', runtimeDir)
    .replaceAll('{{HOME}}', root)
    .replaceAll('{{AGENT}}', readSetupRecord().agent.path);
}

async function untilThere(path: string, child: ChildProcess): Promise<void> {
  while (child.exitCode === null) {
    const isThere = await access(path).then(
      () => true,
      () => false,
    );
    if (isThere) return;
    await delay(POLL_MS);
  }
  throw new Error(`${child.spawnfile} ended with ${child.exitCode} before it made ${path}`);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free TCP port');
  return address.port;
}
