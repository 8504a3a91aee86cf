import { readEnvironment, stackPaths } from '../../config/environment.ts';
import { readSetupRecord } from '../../config/setup-record.ts';
import { processLogger } from '../process-lifetime.ts';
import { driverFromEnvironment } from './driver-from-environment.ts';

/**
 * Ends and removes every VM that this home has an instance record of. Only for a stack whose workers are gone and whose
 * owner wants nothing left. @returns their ids
 */
export async function destroyRecordedVms(): Promise<string[]> {
  const env = readEnvironment();
  const paths = stackPaths(env, process.getuid?.() ?? 0);
  const log = processLogger('teardown', 'error');
  const driver = await driverFromEnvironment(env, paths, readSetupRecord(), log);
  const vmIds = await driver.list();
  for (const vmId of vmIds) await driver.destroy(vmId);
  return vmIds;
}
