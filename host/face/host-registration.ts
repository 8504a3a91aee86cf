/** A host's entry in the registry, and beside it the state of its pool. */
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import type { DriverCapabilities, VmDriver } from '../../ports/vm-driver.ts';
import { isDrained } from '../../store/hosts/host-drains.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import type { HostCapacityLedger } from '../capacity/ledger.ts';
import type { MemoryGauge } from '../capacity/memory-gauge.ts';
import type { HostLogger } from '../host-logger.ts';
import { createPoolPublication } from '../pool/pool-publication.ts';
import type { VmPool } from '../pool/vm-pool.ts';
import type { HostSessions } from '../runs/host-sessions.ts';
import type { Templates } from '../templates/template-store.ts';
import { createRegistration, type Registration } from './registration.ts';

export interface HostRegistrationOptions {
  readonly hostId: string;
  readonly store: ObjectStore;
  readonly driver: Pick<VmDriver, 'kind'>;
  readonly ledger: Pick<HostCapacityLedger, 'totals'>;
  readonly memory: Pick<MemoryGauge, 'read'>;
  readonly pool: Pick<VmPool, 'status' | 'rest'>;
  readonly sessions: Pick<HostSessions, 'rest'>;
  readonly templates: Pick<Templates, 'list'> | undefined;
  /** Digests of the images on this host. */
  readonly cachedImages: () => Promise<readonly string[]>;
  readonly versions: Readonly<Record<string, string>>;
  /** Known only once the host has started; read before each registration. */
  readonly found: () => { readonly url: string; readonly capabilities: DriverCapabilities | undefined };
  /** Pause between two registrations, ms. */
  readonly everyMs: number;
  readonly logger: HostLogger;
}

export function createHostRegistration(options: HostRegistrationOptions): Registration {
  const { hostId, store, pool, templates, everyMs, logger } = options;
  const publishPool = createPoolPublication(
    () => ({ ...pool.status(), templates: templates?.list() ?? [] }),
    async (status) => void (await store.writeDocument(storeKeys.pool(hostId), status)),
  );
  return createRegistration({
    everyMs,
    logger,
    publish: async (entry) => {
      await store.writeDocument(storeKeys.host(hostId), entry);
      await publishPool();
    },
    facts: () => readFacts(options),
  });
}

async function readFacts(options: HostRegistrationOptions): Promise<Omit<HostEntry, 'at' | 'load'>> {
  const { hostId, store, driver, ledger, memory, pool, sessions, cachedImages, versions, found } = options;
  const draining = await isDrained(store, hostId);
  pool.rest(draining);
  sessions.rest(draining);
  const { url, capabilities } = found();
  return {
    hostId,
    url,
    ...(await ledger.totals()),
    memory: await memory.read(),
    images: await cachedImages(),
    draining,
    driver: capabilities === undefined ? driver.kind : `${driver.kind}/${capabilities.accel}`,
    versions: { ...versions, [driver.kind]: capabilities?.version ?? 'unknown' },
  };
}
