import { defined } from '../domain/defined.ts';
import { createInspectionPool, type InspectionPool, type InspectionSettings } from '../inspection/inspection-pool.ts';
import { identify } from '../linux/process-identity.ts';
import { processUsage } from '../vmm/limits/process-usage.ts';
import type { HostLogger } from './host-logger.ts';

/**
 * @param main program of the processes; default: the one that reads folders
 * @returns the processes in which this host reads strangers' folders, not started yet
 */
export function createHostInspections(
  settings: InspectionSettings,
  logger: Pick<HostLogger, 'warn'>,
  main?: string,
): InspectionPool {
  return createInspectionPool({ ...settings, logger, readProcess: usageOf, ...defined({ main }) });
}

async function usageOf(pid: number) {
  const identity = await identify(pid);
  return identity && processUsage(identity);
}
