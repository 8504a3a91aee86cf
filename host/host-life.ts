/** The start and the end of a host's process: the order of the steps. VMs keep running through both. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { InspectionPool } from '../inspection/inspection-pool.ts';
import type { DriverCapabilities, VmDriver } from '../ports/vm-driver.ts';
import type { InstanceStore } from '../vmm/instance-record.ts';
import type { DataPlane } from './face/data-plane.ts';
import type { HostMetrics } from './face/host-metrics.ts';
import type { Registration } from './face/registration.ts';
import type { HostLogger } from './host-logger.ts';
import type { HostLogs } from './logs/host-logs.ts';
import type { VmPool } from './pool/vm-pool.ts';
import type { HostSessions } from './runs/host-sessions.ts';
import type { HostServices } from './services/guest-services.ts';
import type { Templates } from './templates/template-store.ts';
import type { HostUpkeep } from './upkeep/host-upkeep.ts';
import { adoptRecorded } from './vms/adoption.ts';
import type { Adoption, HostVms } from './vms/vm-host.ts';

export interface HostLifeRooms {
  readonly stateDir: string;
  readonly scratchDir: string;
  readonly driver: Pick<VmDriver, 'kind' | 'list' | 'probe'>;
  readonly records: Pick<InstanceStore, 'read' | 'finishRenames'>;
  readonly vms: HostVms;
  readonly services: HostServices;
  readonly logs: Pick<HostLogs, 'start' | 'stop'>;
  readonly templates: Pick<Templates, 'start' | 'stop'> | undefined;
  readonly sessions: Pick<HostSessions, 'watchAll' | 'start' | 'stop'>;
  readonly pool: Pick<VmPool, 'start' | 'maintain' | 'stop'>;
  readonly metrics: Pick<HostMetrics, 'noteDriver'>;
  readonly dataPlane: DataPlane;
  readonly registration: Registration;
  readonly upkeep: HostUpkeep;
  readonly inspections: Pick<InspectionPool, 'start' | 'stop'>;
  /** How long a start waits for guests to answer, ms. */
  readonly startWaitMs: number;
  /** Called with what the registration says of this process. */
  readonly onFound: (found: { url: string; capabilities: DriverCapabilities }) => void;
  readonly logger: HostLogger;
}

/** @returns base URL of the data plane and what became of each recorded VM */
export async function startHost(rooms: HostLifeRooms): Promise<{ url: string; adoptions: readonly Adoption[] }> {
  const { driver, pool, logger } = rooms;
  await mkdir(rooms.stateDir, { recursive: true, mode: 0o700 });
  // A VM that was being handed out when the previous process died belongs to its workload.
  await rooms.records.finishRenames();
  const { records, vms, services, startWaitMs } = rooms;
  const adoptions = await adoptRecorded({ driver, records, vms, services, startWaitMs, logger });
  await rooms.sessions.watchAll(await driver.list());
  await pool.start();
  await emptyDirectory(rooms.scratchDir);
  const capabilities = await driver.probe();
  rooms.metrics.noteDriver(driver.kind, capabilities);
  const url = await rooms.dataPlane.listen();
  rooms.onFound({ url, capabilities });
  rooms.inspections.start();
  rooms.logs.start();
  rooms.sessions.start();
  await rooms.registration.start();
  await rooms.templates?.start();
  rooms.upkeep.start();
  // Warms up beside everything else. Later a workflow asks for the rounds, so that they can be seen.
  void pool.maintain().catch((error: unknown) => {
    logger.warn({ reason: String(error) }, 'the pool could not be warmed up');
  });
  return { url, adoptions };
}

/** Closes everything without disturbing a VM. */
export async function detachHost(rooms: HostLifeRooms): Promise<void> {
  await rooms.upkeep.stop();
  await rooms.templates?.stop();
  await rooms.registration.stop();
  await rooms.inspections.stop();
  await rooms.pool.stop();
  await rooms.sessions.stop();
  await rooms.vms.detachAll();
  for (const vmId of await rooms.driver.list()) await rooms.services.settled(vmId);
  await rooms.logs.stop();
  await rooms.dataPlane.close();
}

/** Files of an earlier process are useless. The folder itself stays: on a full disk it could not be made again. */
async function emptyDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true });
}
