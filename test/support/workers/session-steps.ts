/** Steps that tests of sessions take again and again. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { SessionClient, SessionSnapshot } from '../../../client/temporal/sessions/session-client.ts';
import type { ThreadName } from '../../../domain/names.ts';
import type { EndedRun, KnownRun } from '../../../domain/session/run-book.ts';
import type { Tier } from '../../../domain/session/tiers.ts';
import type { Host } from '../../../host/host.ts';
import type { RunRecords } from '../../../ports/session-books.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import { throughOutages } from './dev-stack.ts';

/** @returns the command that runs a script of the shell */
export const shell = (script: string): string[] => ['sh', '-c', script];

export const threadNamed = (thread: string): ThreadName => ({ project: 'default', thread });

/**
 * @returns the client with reads that are repeated, like any caller should, while no worker answers in time: on a busy
 * machine one that lives may take longer than the deadline of a query
 */
export function repeatingReads(sessions: SessionClient): SessionClient {
  return {
    ...sessions,
    get: (name) => throughOutages(() => sessions.get(name)),
    run: (name, runId) => throughOutages(() => sessions.run(name, runId)),
    runs: (name, limit) => throughOutages(() => sessions.runs(name, limit)),
    list: (query) => throughOutages(() => sessions.list(query)),
  };
}

/** Waits until the run has ended, also while workers are away. */
export async function ended(sessions: SessionClient, name: ThreadName, runId: string): Promise<EndedRun> {
  for (;;) {
    const { run } = await sessions.run(name, runId);
    if (run.state === 'ended') return run.run;
    await delay(20);
  }
}

/** Sends a command and waits until it has ended. */
export async function ran(
  sessions: SessionClient,
  name: ThreadName,
  id: string,
  command: readonly string[],
): Promise<EndedRun> {
  await throughOutages(() => sessions.send(name, { id, command: [...command] }));
  return ended(sessions, name, id);
}

export async function untilRun(
  sessions: SessionClient,
  name: ThreadName,
  runId: string,
  state: KnownRun['state'],
): Promise<KnownRun> {
  for (;;) {
    const { run } = await sessions.run(name, runId);
    if (run.state === state) return run;
    await delay(20);
  }
}

export async function untilTier(
  sessions: SessionClient,
  name: ThreadName,
  ...tiers: readonly Tier[]
): Promise<SessionSnapshot> {
  for (;;) {
    const snapshot = await sessions.get(name);
    if (snapshot.state !== undefined && tiers.includes(snapshot.state.tier)) return snapshot;
    await delay(20);
  }
}

/** Closes every session that is open. */
export async function closeAll(sessions: SessionClient): Promise<void> {
  const { items } = await sessions.list({ limit: 100 });
  const open = items.filter(({ tier }) => tier !== 'closed' && tier !== 'expired');
  await Promise.all(open.map(({ thread }) => sessions.close(threadNamed(thread), { waitMs: 20_000 })));
}

/** Waits until the end of a run is in the store. */
export async function recorded(records: Pick<RunRecords, 'read'>, name: ThreadName, runId: string): Promise<void> {
  while ((await records.read(name, runId)) === undefined) await delay(20);
}

/** Deletes an execution, as retention does. */
export async function forget(temporal: Client, workflowId: string): Promise<void> {
  const { namespace } = temporal.options;
  await temporal.workflowService.deleteWorkflowExecution({ namespace, workflowExecution: { workflowId } });
  const isThere = () =>
    temporal.workflow
      .getHandle(workflowId)
      .describe()
      .then(
        () => true,
        () => false,
      );
  while (await isThere()) await delay(20);
}

/** Makes an empty file in `/tmp` of a guest of the fake driver, which has one of its own. */
export async function openGate(stateDir: string, vmId: string, gate: string): Promise<void> {
  const record = await createInstanceStore(stateDir).read(vmId);
  if (record?.process === undefined) throw new Error(`VM ${vmId} has no process`);
  await writeFile(`/proc/${record.process.pid}/root/tmp/${gate}`, '');
}

/** The output of all runs in the files of a host, with the frames around it: what was started outside is counted so. */
export async function outputsBelow(stateDir: string): Promise<string> {
  const entries = await readdir(join(stateDir, 'runs'), { recursive: true, withFileTypes: true }).catch(() => []);
  // Beside each file of output is one that says whose it is.
  const files = entries.filter((entry) => entry.isFile() && /^\d+$/.test(entry.name));
  const texts = files.map((file) => readFile(join(file.parentPath, file.name), 'latin1'));
  return (await Promise.all(texts)).join('');
}

/** Kills the VMM of the session's VM. @throws Error where it has none that runs */
export async function killVm(
  { sessions, host }: { readonly sessions: SessionClient; readonly host: Pick<Host, 'vms'> },
  name: ThreadName,
): Promise<void> {
  const { state } = await sessions.get(name);
  const { pid } = { pid: undefined, ...(await host.vms.status(state?.place?.vmId ?? '')) };
  if (pid === undefined) throw new Error(`${name.thread} has no VM that runs`);
  process.kill(pid, 'SIGKILL');
}
