/**
 * A whole Kiln in one test process: control worker and host worker on the real Temporal and S3 servers of the run, with
 * the fake VM driver and short timings. Each harness has a namespace and a bucket of its own.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { inject } from 'vitest';
import { createSessionClient, type SessionClient } from '../../../client/temporal/sessions/session-client.ts';
import { createWorkloadClient, type WorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import { workloadWorkflowId } from '../../../domain/names.ts';
import type { SessionPolicyOverrides, WorkloadPolicyOverrides } from '../../../domain/policies.ts';
import type { Stage } from '../../../domain/workload/stages.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';
import type { Host } from '../../../host/host.ts';
import type { RunRecords } from '../../../ports/session-books.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createRunRecords } from '../../../store/sessions/run-records.ts';
import { createWorkloadDocuments } from '../../../store/workloads/workload-documents.ts';
import { ensureSearchAttributes, namespaceId } from '../../../temporal/namespace.ts';
import type { ControlMetrics } from '../../../workers/control/control-metrics.ts';
import { type JudgedHistory, judgeHistories } from '../histories/recorded-histories.ts';
import { whatIsLeft } from '../host/nothing-left.ts';
import { freshObjectStore } from '../servers/object-store.ts';
import { afterEachEvent, movesStage } from './after-each-event.ts';
import { controlWorkerOf, type HarnessOptions, HostRunner, sessionBooksOf } from './harness-workers.ts';
import { repeatingReads } from './session-steps.ts';

/** Timings with which a whole workload takes a second or two. */
export const FAST: WorkloadPolicyOverrides = {
  placement: { deadlineMs: 5_000, backoffMs: 20, maxBackoffMs: 100 },
  host: { scheduleToStartMs: 1_500, lostAfterMs: 2_500, recheckMs: 100, outageTries: 100 },
  supervise: { backoffMs: 20, maxBackoffMs: 200, heartbeatMs: 1_500, settleMs: 2_000 },
  leave: { graceMs: 1_000, startToCloseMs: 10_000, heartbeatMs: 3_000, scheduleToCloseMs: 15_000 },
};

/** Timings with which a session notices within seconds that its host or its worker is away. */
export const FAST_SESSIONS: SessionPolicyOverrides = {
  ...FAST,
  leave: { ...FAST.leave, graceMs: 0 },
  run: { heartbeatMs: 1_500 },
  save: { heartbeatMs: 1_500, backoffMs: 20, maxBackoffMs: 1_000 },
  session: { settleMs: 20 },
};

export interface Harness {
  readonly temporal: Client;
  readonly workloads: WorkloadClient;
  readonly sessions: SessionClient;
  readonly runRecords: RunRecords;
  /** @returns a client whose sessions have these policies in place of some of `FAST_SESSIONS` */
  sessionsWith(policies: SessionPolicyOverrides): SessionClient;
  readonly store: ObjectStore;
  readonly host: Host;
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly namespace: string;
  readonly controlMetrics: ControlMetrics;
  /** Waits until a workload is in one of the stages. */
  untilStage(id: string, ...stages: Stage[]): Promise<WorkloadState>;
  /** Ends and starts the host worker in this process, like a restart; the VMs stay. */
  restartHost(): Promise<void>;
  /** The second host, of tests that ask for one: it is theirs to start and stop. */
  readonly second: HostRunner;
  stopHost(): Promise<void>;
  startHost(): Promise<void>;
  /** Runs the projector over every history of the namespace and replays it. */
  judge(): Promise<JudgedHistory[]>;
  /** @returns what the host still holds, one line for each thing */
  left(ports?: readonly number[]): Promise<string[]>;
  close(): Promise<void>;
}

let runtimeInstalled = false;

/** Must come before any other use of the SDK in the process. Hides the log lines of each worker's start and end. */
export function quietRuntime(): void {
  if (runtimeInstalled) return;
  runtimeInstalled = true;
  Runtime.install({ shutdownSignals: [], logger: new DefaultLogger('ERROR') });
}

/** Starts a Kiln. `close` must be called in `afterAll`. */
export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  quietRuntime();
  const address = inject('temporalAddress');
  const workflowBundle = inject('workflowBundle');
  const connection = await Connection.connect({ address });
  const namespace = await makeNamespace(connection);
  const native = await NativeConnection.connect({ address });
  const temporal = new Client({ connection, namespace });
  const store = await freshObjectStore(options.storePrefix === undefined ? {} : { prefix: options.storePrefix });
  const directory = await mkdtemp(join(tmpdir(), 'kiln-harness-'));
  const surroundings = { options, store, native, namespace };
  const { worker: control, controlMetrics } = await controlWorkerOf({ ...surroundings, connection, workflowBundle });
  const controlRun = control.run();
  const id = await namespaceId(connection, namespace);
  const aroundHosts = { ...surroundings, temporal, namespaceId: id };
  const hostRunner = new HostRunner({ ...aroundHosts, directory });
  const second = new HostRunner({ ...aroundHosts, directory: join(directory, 'second'), hostId: 'h2' });
  if (options.withHost !== false) await hostRunner.start();
  const sessionsWith = (policies: SessionPolicyOverrides) =>
    repeatingReads(
      createSessionClient({
        client: temporal,
        books: sessionBooksOf(store, options),
        policies: { ...FAST_SESSIONS, ...policies },
      }),
    );
  const workloads = createWorkloadClient({
    client: temporal,
    archive: createWorkloadDocuments(store),
    policies: { ...FAST, ...options.policies },
  });
  return {
    temporal,
    workloads,
    sessions: sessionsWith({}),
    sessionsWith,
    runRecords: createRunRecords(store),
    store,
    get host() {
      return hostRunner.current();
    },
    stateDir: hostRunner.stateDir,
    runtimeDir: hostRunner.runtimeDir,
    namespace,
    controlMetrics,
    untilStage: (workloadId, ...stages) =>
      afterEachEvent(
        temporal,
        workloadWorkflowId(workloadId),
        () => inStage(workloads, workloadId, stages),
        movesStage,
      ),
    restartHost: async () => {
      await hostRunner.stop();
      await hostRunner.start();
    },
    stopHost: () => hostRunner.stop(),
    startHost: () => hostRunner.start(),
    left: async (ports) => {
      // A guest that the host is freezing for a template belongs to no workload and must not be counted.
      await hostRunner.settled();
      const { stateDir, runtimeDir } = hostRunner;
      const here = await whatIsLeft({ stateDir, runtimeDir, ...(ports ? { ports } : {}) });
      return options.secondHost ? [...here, ...(await whatIsLeft(second))] : here;
    },
    judge: () => judgeHistories(temporal, workflowBundle),
    second,
    async close() {
      await second.stop();
      await hostRunner.stop();
      control.shutdown();
      await controlRun;
      await native.close();
      await connection.close();
      store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** @returns the name of a new namespace that can be used at once */
export async function makeNamespace(connection: Connection): Promise<string> {
  const namespace = `test-${randomUUID()}`;
  await connection.workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: msToTs('1 day'),
  });
  // The server's caches learn of a new namespace a moment later.
  for (;;) {
    try {
      await ensureSearchAttributes(connection, namespace, { deadlineMs: 20_000, retryMs: 50 });
      return namespace;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 5)) throw error;
      await new Promise((done) => setTimeout(done, 50));
    }
  }
}

/** @returns the state, if the workload is in one of the stages @throws Error if it ended in another stage */
async function inStage(
  workloads: WorkloadClient,
  id: string,
  stages: readonly Stage[],
): Promise<WorkloadState | undefined> {
  const { state, origin } = await workloads.get(id);
  // If the workflow did not answer, only the stage and the reason to wait are known.
  if (origin === 'temporal' && state.waiting !== undefined) return undefined;
  if (stages.includes(state.stage)) return state;
  if (state.stage !== 'stopped' && state.stage !== 'failed') return undefined;
  throw new Error(
    `${id} is ${state.stage}, not ${stages.join(' or ')}: ${JSON.stringify(state.failure ?? state.leaving)}`,
  );
}
