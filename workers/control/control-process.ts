import { join } from 'node:path';
import { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { type KilnEnvironment, readEnvironment, stackPaths } from '../../config/environment.ts';
import { messageOf } from '../../domain/failures.ts';
import { keepFilesPrivate } from '../../linux/private-files.ts';
import { createImageCatalog } from '../../rootfs/image/image-catalog.ts';
import { createControlLog } from '../../store/logs/control-log.ts';
import { createRunRecords } from '../../store/sessions/run-records.ts';
import { createSessionHeads } from '../../store/sessions/saves/heads.ts';
import { createSessionRecords } from '../../store/sessions/session-records.ts';
import { createWaitingLine } from '../../store/workloads/waiting-line.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';
import { connectClient, connectWorker } from '../../temporal/connection.ts';
import { ensureMaintenanceSchedule } from '../../temporal/maintenance-schedule.ts';
import { ensureSearchAttributes } from '../../temporal/namespace.ts';
import { watchLoop } from '../loop-watchdog.ts';
import { serveMetrics } from '../metrics-endpoint.ts';
import { endOnFailure, processLifetime, processLogger } from '../process-lifetime.ts';
import { storeFromEnvironment } from '../store-from-environment.ts';
import { CONNECT_PATIENCE, temporalFromEnvironment } from '../temporal-from-environment.ts';
import { installRuntime } from '../temporal-runtime.ts';
import { createControlMetrics, measuredDocuments } from './control-metrics.ts';
import { createControlWorker } from './control-worker.ts';
import { keptWorkflowBundle } from './kept-bundle.ts';
import { createMaintenancePorts } from './maintenance-ports.ts';
import { createSessionMetrics, measuredSessionBooks } from './session-metrics.ts';

/** About 2 MB each; a larger cache would only save replays. */
const MAX_CACHED_WORKFLOWS = 500;
const SHUTDOWN_GRACE_MS = 5_000;
const DAY_MS = 24 * 60 * 60 * 1000;

/** Runs a control worker until SIGINT or SIGTERM. */
export async function runControlProcess(): Promise<void> {
  keepFilesPrivate();
  const env = readEnvironment();
  const log = processLogger('control', env.KILN_LOG_LEVEL);
  watchLoop({ name: 'control', stuckMs: env.KILN_STUCK_AFTER_S * 1000 });
  installRuntime(log);
  const ending = processLifetime(log);
  const where = temporalFromEnvironment(env);
  const store = storeFromEnvironment(env);
  const patience = { ...CONNECT_PATIENCE, signal: ending };
  const directory = join(stackPaths(env, process.getuid?.() ?? 0).cacheDir, 'workflows');
  const [connection, bundle] = await Promise.all([connectWorker(where, patience), keptWorkflowBundle({ directory })]);
  const client = await connectClient(where, patience);
  await ensureSearchAttributes(client, where.namespace, CONNECT_PATIENCE);
  const temporal = new Client({ connection: client, namespace: where.namespace });
  await scheduleMaintenance(temporal, env, log);
  const metrics = createControlMetrics();
  const worker = await createControlWorker({
    connection,
    namespace: where.namespace,
    bundle,
    ports: {
      ...createMaintenancePorts({ client: temporal, store }),
      images: createImageCatalog(store),
      line: createWaitingLine(store),
      documents: measuredDocuments(createWorkloadDocuments(store), metrics),
      controlLog: createControlLog(store),
      sessionBooks: measuredSessionBooks(
        { sessions: createSessionRecords(store), runs: createRunRecords(store), heads: createSessionHeads(store) },
        createSessionMetrics(metrics.registry),
      ),
      now: Date.now,
      onDispatched: (latencyMs) => metrics.noteDispatched(latencyMs),
    },
    maxCachedWorkflows: MAX_CACHED_WORKFLOWS,
    shutdownGraceMs: SHUTDOWN_GRACE_MS,
    metrics: metrics.registry,
  });
  ending.addEventListener('abort', () => worker.shutdown(), { once: true });
  if (ending.aborted) worker.shutdown();
  const scraped = await metricsEndpoint(env, metrics.registry);
  log.info({ temporal: where.address, namespace: where.namespace, metrics: scraped?.url }, 'control worker is polling');
  await endOnFailure(() => worker.run());
  await scraped?.close();
  await connection.close();
  await client.close();
  store.close();
}

/** Kiln runs without its Schedule too, but then archives only on demand. */
async function scheduleMaintenance(client: Client, env: KilnEnvironment, log: Logger): Promise<void> {
  const { KILN_MAINTENANCE_EVERY_S: everyS, KILN_KEEP_LOGS_DAYS: logs, KILN_KEEP_SOURCES_DAYS: sources } = env;
  const keep = {
    saveGarbageMs: DAY_MS,
    ...(logs === undefined ? {} : { logsMs: logs * DAY_MS }),
    ...(sources === undefined ? {} : { sourcesMs: sources * DAY_MS }),
  };
  try {
    const done = await ensureMaintenanceSchedule(client, { everyMs: everyS * 1000, input: { schemaVersion: 1, keep } });
    log.info({ everyS, keep, done }, 'maintenance is scheduled');
  } catch (error) {
    const reason = messageOf(error);
    log.error({ reason }, 'maintenance could not be scheduled: nothing is archived but by `kiln archive record`');
  }
}

/** Without the token of the stack's own processes no request could be authorized. */
async function metricsEndpoint(env: KilnEnvironment, registry: Registry) {
  const { KILN_HOST_TOKEN: token, KILN_CONTROL_METRICS_HOST: host, KILN_CONTROL_METRICS_PORT: port } = env;
  return token === undefined ? undefined : serveMetrics(registry, { host, port, token });
}
