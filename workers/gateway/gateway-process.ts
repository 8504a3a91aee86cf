import { Client } from '@temporalio/client';
import { DEFAULT_CLIENT_TIMINGS } from '../../client/temporal/client-timings.ts';
import { createRecordNow } from '../../client/temporal/maintenance/record-now.ts';
import { createSessionClient } from '../../client/temporal/sessions/session-client.ts';
import { createTaskQueueProbe } from '../../client/temporal/task-queue-pollers.ts';
import { createOpenWorkloadCount } from '../../client/temporal/workloads/open-workloads.ts';
import { createWorkloadClient } from '../../client/temporal/workloads/workload-client.ts';
import { packageVersion } from '../../config/checkout.ts';
import { type KilnEnvironment, readEnvironment } from '../../config/environment.ts';
import { KilnError } from '../../domain/failures.ts';
import { createGateway } from '../../gateway/gateway.ts';
import { vmUsageFetcher } from '../../gateway/hosts/host-usage.ts';
import { hostLogsOverHttp } from '../../gateway/logs/host-logs.ts';
import { filesOverHttp } from '../../gateway/sessions/host-files.ts';
import { runOutputOverHttp } from '../../gateway/sessions/host-run-output.ts';
import { keepFilesPrivate } from '../../linux/private-files.ts';
import { createImageCatalog } from '../../rootfs/image/image-catalog.ts';
import { createStoredSessionBooks } from '../../store/sessions/stored-session-books.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';
import { connectClient } from '../../temporal/connection.ts';
import { watchLoop } from '../loop-watchdog.ts';
import { processLifetime, processLogger } from '../process-lifetime.ts';
import { storeFromEnvironment } from '../store-from-environment.ts';
import { CONNECT_PATIENCE, temporalFromEnvironment } from '../temporal-from-environment.ts';

/** How long to wait for a slow host before a workload is shown without its VM's usage. */
const USAGE_MS = 1_000;
/** Until a host begins to answer: scripts in a guest may take as long. */
const FILES_MS = 40_000;
/** Timeouts for a host's data plane, and how much of an answer the gateway reads. */
const HOST_FETCH = { timeoutMs: 3_000, maxBytes: 16 * 1024 * 1024 };

/** Ages of open workloads that the metrics count, seconds. */
const COUNTED_AGES_S = [0, 60, 600, 3600, 86_400];

/** Runs the gateway until SIGINT or SIGTERM. */
export async function runGatewayProcess(): Promise<void> {
  keepFilesPrivate();
  const env = readEnvironment();
  const log = processLogger('gateway', env.KILN_LOG_LEVEL);
  watchLoop({ name: 'gateway', stuckMs: env.KILN_STUCK_AFTER_S * 1000 });
  const ending = processLifetime(log);
  const { apiToken, hostToken } = tokensOf(env);
  const where = temporalFromEnvironment(env);
  const store = storeFromEnvironment(env);
  const connection = await connectClient(where, { ...CONNECT_PATIENCE, signal: ending });
  const client = new Client({ connection, namespace: where.namespace });
  const base = `http://${env.KILN_API_HOST}:${env.KILN_API_PORT}`;
  const uiUrl = env.KILN_TEMPORAL_UI_URL;
  const images = createImageCatalog(store);
  const gateway = createGateway({
    workloads: createWorkloadClient({
      client,
      archive: createWorkloadDocuments(store),
      hostPorts: env.KILN_HOST_PORTS,
      privateNames: env.KILN_EGRESS_PRIVATE,
      logsUrl: (id) => `${base}/api/workloads/${id}/logs`,
    }),
    store,
    isPolled: createTaskQueueProbe({ client }),
    recordNow: createRecordNow({ client, timings: DEFAULT_CLIENT_TIMINGS }),
    openWorkloads: createOpenWorkloadCount({ client, agesS: COUNTED_AGES_S }),
    hostLogs: hostLogsOverHttp({ token: hostToken, ...HOST_FETCH }),
    sessions: {
      client: createSessionClient({
        client,
        books: createStoredSessionBooks(store, (image) => images.resolve(image)),
        privateNames: env.KILN_EGRESS_PRIVATE,
      }),
      followOutput: runOutputOverHttp({ token: hostToken, ...HOST_FETCH }),
      files: filesOverHttp({ token: hostToken, timeoutMs: FILES_MS }),
    },
    fetchVmUsage: vmUsageFetcher({ token: hostToken, timeoutMs: USAGE_MS }),
    token: apiToken,
    log,
    version: packageVersion(),
    ...(uiUrl === undefined ? {} : { temporalUrl: executionPage(uiUrl, where.namespace) }),
  });
  const url = await gateway.listen({ host: env.KILN_API_HOST, port: env.KILN_API_PORT });
  log.info({ url }, 'gateway answers');
  await new Promise((resolve) => (ending.aborted ? resolve(undefined) : ending.addEventListener('abort', resolve)));
  await gateway.close();
  await connection.close();
  store.close();
}

function executionPage(uiUrl: string, namespace: string) {
  return ({ workflowId, executionId }: { workflowId: string; executionId?: string }) => {
    const page = `${uiUrl}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}`;
    return executionId === undefined ? page : `${page}/${executionId}/history`;
  };
}

function tokensOf({ KILN_API_TOKEN: apiToken, KILN_HOST_TOKEN: hostToken }: KilnEnvironment) {
  if (apiToken !== undefined && hostToken !== undefined) return { apiToken, hostToken };
  throw new KilnError('CONFIG_INVALID', 'Set KILN_API_TOKEN and KILN_HOST_TOKEN; `kiln dev` makes both.');
}
